"""Packaged studies and comparisons, and laying overrides over them."""

import pytest

from mudman import packaged, presets
from mudman.faults import SpecError
from mudman.registry import source_faults
from mudman.specs import parse
from mudman.specs.comparison import parse_comparison

PUBLISHED = [name for name in presets.names() if not name.endswith("-small") and name != "quickstart"]


def specs_of(name):
    """Every study of a preset, by variant."""
    variants = presets.about(name).variants or (None,)
    return {variant: parse(presets.load(name, variant=variant)) for variant in variants}


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_names_what_exists_and_can_be_posted(name):
    specs, about = specs_of(name), presets.about(name)

    assert about.description
    assert set(about.expected) <= {*about.variants, "baseline"}
    for variant, spec in specs.items():
        assert spec.name == (f"{name}/{variant}" if variant else name)
        assert spec.labels["preset"] == name
        assert source_faults(spec) == []
    if about.kind == "comparison":
        assert parse_comparison(presets.load(name)).variants == {
            variant: spec.model_copy(update={"labels": {"preset": name}}) for variant, spec in specs.items()
        }
    else:
        assert specs[None].unused() == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_preset_has_a_small_twin_with_its_variants_that_needs_no_hub(name):
    twins, published = specs_of(f"{name}-small"), specs_of(name)

    # An adversary of 24 loops cannot be 60 deep.
    assert twins.keys() | ({"depth_60"} if "depth" in name else set()) == published.keys()
    for variant, spec in twins.items():
        assert spec.model.id in packaged.MODELS
        assert {spec.forget.corpus, spec.retain.corpus} <= packaged.TEXTS.keys()
        assert {evaluation.type for evaluation in spec.evaluations} <= {"cloze", "kl"}
        assert spec.method.type == published[variant].method.type
        assert spec.budget.unlearn_passes <= 120
        assert spec.budget.trials <= 10


def test_the_first_run_has_a_preset():
    assert "quickstart" in presets.names()


@pytest.mark.parametrize("name", ["quick", "", "../presets/quickstart", "quickstart.yaml", "/etc/passwd"])
def test_an_unknown_preset_is_answered_with_known_ones(name):
    with pytest.raises(SpecError, match="quickstart") as caught:
        presets.load(name)
    assert caught.value.faults[0].path == "preset"


def test_an_unknown_variant_is_answered_with_close_ones():
    with pytest.raises(SpecError, match="did you mean no_masking"):
        presets.load("ablations-smol-python", variant="no_mask")
    with pytest.raises(SpecError, match="it is a study"):
        presets.load("quickstart:no_masking")


class TestPublishedSettings:
    """Spot checks against the published files, typed by hand."""

    def method(self, name, variant):
        return parse(presets.load(name, variant=variant)).method

    def ends(self, number):
        return number.low, number.high, number.log

    def test_main_ablation(self):
        llama = "ablations-llama-pile-bio"
        assert self.ends(self.method(llama, "mudman").unlearning_rate) == (1e-8, 0.3, True)
        assert self.ends(self.method(llama, "no_normalization").unlearning_rate) == (1e-5, 300, True)
        assert self.ends(self.method(llama, "tar").unlearning_rate) == (1e-8, 0.3, True)
        assert self.ends(self.method("ablations-pythia-python", "no_normalization").unlearning_rate) == (
            1e-7,
            0.03,
            True,
        )
        tar = self.method("ablations-smol-python", "tar")
        assert (tar.mask.type, tar.normalization, tar.retain_momentum, tar.adversary.decay) == ("none", "none", 0, 1)
        assert self.ends(tar.representation_loss.coefficient) == (1e-12, 1, True)
        assert tar.representation_loss.squared

    @pytest.mark.parametrize(
        ("name", "unlearn", "attack", "rate", "trials", "last"),
        [
            ("ablations-llama-python", 120, 120, 1e-3, 500, 30),
            ("ablations-smol-pile-bio", 300, 300, 3e-3, 500, 30),
            ("ablations-pythia-python", 300, 300, 1e-4, 800, 30),
            ("normalization-pythia-python", 600, 300, 1e-4, 600, 50),
            ("modules-smol-cruelty", 240, 120, 1e-4, 250, 30),
            ("additions-pythia-python", 600, 300, 1e-4, 600, 20),
            ("additions-smol-cruelty-3", 240, 240, 5e-3, 100, 20),
            ("wmdp-llama", 480, 240, 3e-4, 300, 60),
            ("wmdp-llama-4", 2400, 1200, 1e-3, 60, 60),
        ],
    )
    def test_budgets(self, name, unlearn, attack, rate, trials, last):
        for spec in specs_of(name).values():
            assert (spec.budget.unlearn_passes, spec.attack.passes, spec.attack.rate) == (unlearn, attack, rate)
            assert (spec.budget.trials, spec.statistics.last) == (trials, last)
            assert (spec.batch.size, spec.batch.length, spec.batch.evaluation) == (16, 100, 1)

    def test_additions_have_all_bars_of_the_figure(self):
        assert len(presets.about("additions-pythia-python").variants) == 15
        lora = self.method("additions-smol-cruelty-2", "circuit_breakers")
        assert (lora.lora.rank, lora.lora.dropout, self.ends(lora.unlearning_rate)) == (16, 0.05, (5e-7, 5e-6, True))
        adversary = self.method("additions-smol-cruelty-2", "lora_adversary")
        assert (adversary.adversary.rank, self.ends(adversary.adversary_rate)) == (8, (5e-3, 0.1, True))

    def test_wmdp_is_bounded_by_mmlu_and_attacked_with_retain_batches(self):
        spec = parse(presets.load("wmdp-llama", variant="no_masking"))
        assert (spec.constraint.mmlu_floor, spec.constraint.mmlu_every, spec.attack.retain) == (0.2873, 120, True)
        assert (spec.objective.metric, spec.objective.direction) == ("wmdp_accuracy", "minimize")
        assert self.ends(spec.method.unlearning_rate) == (1e-7, 1e-4, True)
        earlier = parse(presets.load("wmdp-llama-3", variant="mudman")).constraint
        assert (earlier.pause_at, earlier.retain_loss_increase, earlier.mmlu_floor) == (0.05, 0.1, None)

    def test_paper_variants_follow_the_text(self):
        for variant, spec in specs_of("ablations-smol-python-paper").items():
            assert (spec.attack.rate, spec.method.rate_unit) == (1e-3, "l2")
            if variant != "no_adversary":
                assert (spec.method.adversary.gradient, spec.method.adversary.decay) == ("fresh", 1)
        rate = self.method("ablations-llama-python-paper", "mudman").unlearning_rate
        assert self.ends(rate) == (pytest.approx(1e-8 * 16384), pytest.approx(0.3 * 16384), True)


@pytest.mark.parametrize("name", [name for name in presets.names() if name.endswith("-small")])
def test_small_twins_search_rates_that_move_a_small_model(name):
    for variant, spec in specs_of(name).items():
        rate = getattr(spec.method, "unlearning_rate", None)
        assert rate is None or getattr(rate, "high", rate) >= 5e-4, variant


class TestMethodsSmall:
    def test_gives_every_method_equal_passes_on_packaged_sources(self):
        specs = specs_of("methods-small")
        kinds = {"mudman", "gradient_ascent", "gradient_difference", "circuit_breakers", "nested", "tar",
                 "random_mapping", "static_circuit", "neuron_ablation", "weight_ablation"}  # fmt: skip
        assert next(iter(specs)) == "mudman"
        assert {spec.method.type for spec in specs.values()} == kinds
        for spec in specs.values():
            assert spec.budget.unlearn_passes == 120
            assert spec.budget.unlearn_passes % spec.method.passes_per_loop() == 0
            assert (spec.model.id, spec.forget.corpus) == ("tiny-llama", "python-functions")

    def test_knows_each_variant_as_a_small_preset(self):
        for variant in presets.about("methods-small").variants:
            alias = f"{variant.replace('_', '-')}-small"
            assert presets.load(alias) == presets.load("methods-small", variant=variant)


class TestAliases:
    def test_lead_to_presets_and_hide_none(self):
        assert not presets.aliases().keys() & set(presets.names())
        for alias, target in presets.aliases().items():
            assert presets.load(alias) == presets.load(target)

    def test_figures_of_both_numberings(self):
        assert presets.load("fig3-smol-python") == presets.load("fig2-smol-python")
        assert presets.load("fig4")["name"] == "wmdp-llama"
        assert presets.load("table1:none")["name"] == "normalization-pythia-python/none"
        assert parse(presets.load("tar-adapted")).method.normalization == "none"
        assert parse(presets.load("tar-adapted-normalized")).method.normalization == "global_pre_mask"


class TestOverrides:
    def load(self, **overrides):
        return presets.load("quickstart", {key.replace("__", "."): value for key, value in overrides.items()})

    def test_may_be_dotted_or_nested(self):
        assert self.load(budget__trials=3) == self.load(budget={"trials": 3})
        assert self.load(budget__trials=3)["budget"] == {**presets.load("quickstart")["budget"], "trials": 3}

    def test_replace_a_value_by_a_range_and_back(self):
        assert self.load(attack={"rate": 0.5})["attack"]["rate"] == 0.5
        assert self.load(method__unlearning_rate=0.5)["method"]["unlearning_rate"] == 0.5
        assert self.load(method__fork_every={"low": 1, "high": 2})["method"]["fork_every"] == {"low": 1, "high": 2}

    def test_may_move_one_end_of_a_range(self):
        assert self.load(method__fork_every__high=30)["method"]["fork_every"] == {"low": 6, "high": 30, "int": True}

    def test_of_another_type_replace_the_whole_mapping(self):
        assert parse(self.load(method={"type": "none"})).method.type == "none"
        assert self.load(method__adversary={"type": "none"})["method"]["adversary"] == {"type": "none"}
        assert self.load(method__adversary={"decay": 0.5})["method"]["adversary"] == {
            "type": "fork", "gradient": "reuse", "decay": 0.5
        }  # fmt: skip

    def test_may_add_and_clear_sections(self):
        document = self.load(seeds__data=7, constraint=None)
        assert (document["seeds"], document["constraint"]) == ({"data": 7}, None)

    def test_leave_the_preset_as_it_is(self):
        overrides = {"labels": {"a": "b"}, "seeds": {"data": 1}}
        document = presets.load("quickstart", overrides)
        document["seeds"]["data"] = 2
        assert overrides == {"labels": {"a": "b"}, "seeds": {"data": 1}}
        assert "a" not in presets.load("quickstart")["labels"]

    def test_of_a_variant_are_laid_over_the_variant(self):
        overrides = {"method.unlearning_rate": 0.5, "name": "mine"}
        document = presets.load("ablations-llama-python", overrides, variant="no_normalization")
        assert (document["method"]["unlearning_rate"], document["method"]["normalization"]) == (0.5, "none")
        assert document["name"] == "mine"

    def test_that_fit_nowhere_are_named_by_the_spec(self):
        with pytest.raises(SpecError, match=r"method\.adversry"):
            parse(self.load(method__adversry__decay=1))
