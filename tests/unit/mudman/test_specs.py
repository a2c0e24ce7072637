"""The vocabulary: what is a study, what is not, and how each wrong field is named."""

import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import DOCUMENTS, JSON_DATA, SPECS

from mudman.documents import read_json, read_yaml
from mudman.faults import FieldFault, SpecError
from mudman.presets import merged
from mudman.specs import AttackSpec, MudmanSpec, NoUnlearning, Range, StudySpec, parse, parse_as, resolve

# A spec that shows every kind of field.
EXAMPLE = """
name: smol-python-mudman
model: {id: HuggingFaceTB/SmolLM-135M, revision: main, dtype: float32}
forget: {corpus: python-functions}
retain: {corpus: wikitext}
batch: {size: 16, length: 100}
method:
  type: mudman
  target_modules: [gate_proj]
  loss: neg_cross_entropy
  mask: sign
  normalization: global_pre_mask
  rate_unit: rms
  adversary: {type: fork, gradient: reuse, decay: 1.0, update: 0.0}
  forget_momentum: 0.0
  growing_weights: 1.0
  representation_loss: null
  unlearning_rate: {low: 1.0e-7, high: 0.3, log: true}
  retaining_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  retain_momentum: {low: 0.0, high: 0.99}
  adversary_rate: {low: 3.0e-4, high: 0.1, log: true}
  fork_every: {low: 6, high: 42, int: true}
attack: {type: relearn, optimizer: sgd, rate: 3.0e-3, passes: 300, check_every: 30}
budget: {unlearn_passes: 300, trials: 500}
constraint: {retain_loss_increase: 0.05}
objective: {metric: forget_loss, reduce: min, direction: maximize}
sampler: {type: tpe, seed: 0}
seeds: {data: 42, trial: 42}
resources: {gpus: 0.25, max_concurrent: 4}
statistics: {last: 30}
"""

SMALL = {
    "name": "small",
    "model": {"id": "tiny-llama"},
    "forget": {"corpus": "python-functions"},
    "retain": {"corpus": "wikipedia"},
    "method": {"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 0.01},
    "attack": {"rate": 0.01, "passes": 4},
    "budget": {"unlearn_passes": 10, "trials": 2},
}


def small(**overrides) -> StudySpec:
    return parse(merged(SMALL, {key.replace("__", "."): value for key, value in overrides.items()}))


def faults_of(overrides: dict) -> list[FieldFault]:
    with pytest.raises(SpecError) as caught:
        parse(merged(SMALL, overrides))
    return caught.value.faults


def test_the_example_of_the_design_is_a_study():
    spec = parse(read_yaml(EXAMPLE))

    assert list(spec.search_space()) == [
        "unlearning_rate", "retaining_rate", "retain_momentum", "adversary_rate", "fork_every"
    ]  # fmt: skip
    assert spec.search_space()["unlearning_rate"] == Range(low=1e-7, high=0.3, log=True)
    assert spec.unused() == []
    assert spec.resources.gpus == 0.25
    assert parse(json.loads(json.dumps(read_yaml(EXAMPLE)))) == spec


@given(SPECS)
def test_every_spec_survives_json_and_yaml(spec):
    text = spec.model_dump_json()

    assert parse(json.loads(text)) == spec
    assert parse(read_json(text)) == spec
    assert parse(read_yaml(text)) == spec
    assert parse(spec.model_dump()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@given(SPECS)
def test_storing_only_what_was_given_loses_nothing(spec):
    stored = parse(spec.model_dump(mode="json", exclude_unset=True))

    assert (stored, stored.unused(), stored.identity()) == (spec, spec.unused(), spec.identity())


BAD = [
    # overrides of the small study -> paths of the faults, words of the message or remedy
    ({"method.adversry": {}}, ["method.adversry"], "did you mean 'adversary'"),
    ({"method.adversary": {"gradent": "reuse"}}, ["method.adversary.gradent"], "did you mean 'gradient'"),
    ({"zzzzzz": 1}, ["zzzzzz"], "remove it"),
    (
        {"method.unlearning_rate": {"low": 2.0, "high": 1.0}},
        ["method.unlearning_rate"],
        "low (2) must be below high (1)",
    ),
    ({"method.unlearning_rate": {"low": 1.0, "high": 1.0}}, ["method.unlearning_rate"], "give the number"),
    ({"method.unlearning_rate": {"low": 0, "high": 1, "log": True}}, ["method.unlearning_rate"], "take low > 0"),
    ({"method.unlearning_rate": {"low": -1, "high": 1, "log": True}}, ["method.unlearning_rate"], "take low > 0"),
    ({"method.unlearning_rate": {"low": 0.1}}, ["method.unlearning_rate.high"], "add this field"),
    ({"method.unlearning_rate": {"low": 0, "high": 1, "logg": True}}, ["method.unlearning_rate.logg"], "'log'"),
    ({"method.unlearning_rate": {"low": 0, "high": math.inf}}, ["method.unlearning_rate.high"], "finite"),
    ({"method.unlearning_rate": {"low": True, "high": 2}}, ["method.unlearning_rate.low"], "number"),
    ({"method.unlearning_rate": math.nan}, ["method.unlearning_rate"], "finite"),
    ({"method.unlearning_rate": -0.1}, ["method.unlearning_rate"], "at least 0"),
    ({"method.unlearning_rate": "fast"}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": "0.1"}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": True}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": [1, 2]}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": None}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": 10**400}, ["method.unlearning_rate"], "number"),
    ({"method.retaining_rate": {"low": -1, "high": 1}}, ["method.retaining_rate.low"], "at least 0, in place of -1"),
    ({"method.retain_momentum": 1.5}, ["method.retain_momentum"], "between 0 and 1"),
    ({"method.retain_momentum": {"low": 0.5, "high": 1.1}}, ["method.retain_momentum.high"], "between 0 and 1"),
    ({"method.adversary": {"decay": -0.1}}, ["method.adversary.decay"], "between 0 and 1"),
    ({"method.fork_every": 0}, ["method.fork_every"], "at least 1"),
    ({"method.fork_every": {"low": 1.5, "high": 3, "int": True}}, ["method.fork_every"], "whole numbers"),
    ({"method.adversary": {"type": "lore"}}, ["method.adversary.type"], "'none', 'fork' or 'lora'"),
    ({"method.loss": "correct"}, ["method.loss"], "one of 'neg_cross_entropy', 'neg_entropy', 'correct_logit'"),
    ({"method.loss": {"type": "correct"}}, ["method.loss.type"], "one of 'neg_cross_entropy'"),
    ({"method.loss": {"type": "correct_logit", "clap": 1}}, ["method.loss.clap"], "did you mean 'clip'?"),
    ({"method.loss": {"clip": 1}}, ["method.loss.type"], "add this field"),
    ({"method.mask": {"type": "percentile", "retain_quantile": 2}}, ["method.mask.retain_quantile"], "between 0 and 1"),
    ({"method.adversary": {"type": "lora", "update": 0.5}}, ["method.adversary.update"], "leave adversary.update at 0"),
    (
        {"method.adversary": {"gradient": "reuse"}, "method.backward": "fading"},
        ["method.adversary.gradient"],
        "take adversary.gradient: hybrid or fresh",
    ),
    (
        {"method.mask": "agem", "method.normalization": "per_parameter"},
        ["method.normalization"],
        "does not combine with mask: agem",
    ),
    (
        {"method.mask": "agem", "method.growing_weights": 0.5},
        ["method.growing_weights"],
        "leave growing_weights at 1",
    ),
    ({"method.backward": {"type": "fading", "mlp": False}}, ["method.backward"], "fades nothing"),
    ({"method.mask": "percentile"}, ["budget.unlearn_passes"], "unlearns nothing in its first 20"),
    (
        {
            "method": {
                "type": "static_circuit",
                "target_modules": ["a"],
                "unlearning_rate": 1.0,
                "locate_loops": 1,
                "circuits": [{"loss": "neg_entropy"}, {"loss": "correct_logit"}],
            }
        },
        ["method.locate_loops"],
        "cannot locate 2 circuits",
    ),
    ({"constraint": {"retain_loss_increase": 0.1, "pause_at": 0.1}}, ["constraint.pause_at"], "must lie below"),
    ({"constraint": {"kl": 0}}, ["constraint.kl"], "greater than 0"),
    ({"constraint": {"mmlu_drop": 0.01}}, ["evaluations"], "exactly one evaluation of type multiple_choice"),
    (
        {"objective": {"metric": "wmdp_accuracy", "direction": "minimize", "reduce": "final"}},
        ["evaluations"],
        "with measures: forget",
    ),
    ({"objective": {"direction": "minimize"}}, ["objective"], "forget_loss goes with direction: maximize"),
    ({"evaluations": ["cloze", "clozes"]}, ["evaluations.1"], "'kl', 'multiple_choice'"),
    (
        {
            "method": {"type": "gradient_ascent", "target_modules": ["a"], "unlearning_rate": 1.0},
            "constraint": {"retain_loss_increase": 0.1, "pause_at": 0.05},
        },
        ["constraint.pause_at"],
        "no retain step",
    ),
    (
        {
            "method": {"type": "tar", "target_modules": ["a"], "inner_steps": 3, "hue": 1},
            "budget.unlearn_passes": 12,
        },
        ["budget.unlearn_passes", "method.hue"],
        "take 11 or 22",
    ),
    ({"method.target_modules": "gate_proj"}, ["method.target_modules"], "give a list: [gate_proj]"),
    ({"method.target_modules": []}, ["method.target_modules"], "at least 1"),
    ({"method.target_modules": ["a", 3]}, ["method.target_modules.1"], "string"),
    ({"method": {"type": "mudmann"}}, ["method.type"], "one of 'mudman', 'gradient_ascent'"),
    ({"method": {"type": ["mudman"]}}, ["method.type"], "one of 'mudman', 'gradient_ascent'"),
    ({"method": "mudman"}, ["method"], "mapping"),
    ({"attack.type": "lora"}, ["attack.type"], "'relearn'"),
    ({"attack.rate": 0}, ["attack.rate"], "greater than 0"),
    ({"attack.rate": 0}, ["attack.rate"], "give a number above 0, in place of 0"),
    ({"budget.trials": 0}, ["budget.trials"], "give a number of at least 1, in place of 0"),
    ({"seeds": {"data": 2**32}}, ["seeds.data"], "give a number below 4294967296"),
    ({"labels": {"version": 1}}, ["labels.version"], "give text in place of 1, in quotes"),
    ({"method.retain_momentum": 1.5}, ["method.retain_momentum"], "between 0 and 1, in place of 1.5"),
    ({"attack.passes": 0}, ["attack.passes"], "greater than or equal to 2"),
    ({"attack.passes": 5}, ["attack.passes"], "take 4 or 6"),
    ({"attack": {"rate": 0.1, "passes": 6, "retain": True}}, ["attack.passes"], "take 4 or 8"),
    ({"budget.trials": 0}, ["budget.trials"], "greater than or equal to 1"),
    ({"budget.trials": True}, ["budget.trials"], "whole number in place of True"),
    ({"budget.trials": 2.5}, ["budget.trials"], "whole number in place of 2.5"),
    ({"budget.trials": "2"}, ["budget.trials"], "whole number in place of '2'"),
    ({"budget.unlearn_passes": 11}, ["budget.unlearn_passes"], "take 10 or 15"),
    ({"budget.unlearn_passes": 3}, ["budget.unlearn_passes"], "take 5"),
    ({"budget.unlearn_passes": -5}, ["budget.unlearn_passes"], "greater than or equal to 0"),
    ({"budget.unlearn_passes": 10**400}, ["budget.unlearn_passes"], "less than or equal to 1000000000"),
    ({"method.adversary": {"type": "none"}, "budget.unlearn_passes": 10}, ["budget.unlearn_passes"], "take 8 or 12"),
    ({"constraint": {"retain_loss_increase": -0.1}}, ["constraint.retain_loss_increase"], "greater than or equal to 0"),
    ({"constraint": {}}, ["constraint"], "give retain_loss_increase, kl"),
    ({"resources": {"gpus": 1.5}}, ["resources.gpus"], "whole cards"),
    ({"resources": {"gpus": -1}}, ["resources.gpus"], "greater than or equal to 0"),
    ({"resources": {"cpus": 0}}, ["resources.cpus"], "greater than 0"),
    ({"seeds": {"data": -1}}, ["seeds.data"], "greater than or equal to 0"),
    ({"seeds": {"trial": 2**32}}, ["seeds.trial"], "less than"),
    ({"name": ""}, ["name"], "at least 1 character"),
    ({"name": "a\x00b"}, ["name"], "pattern"),
    ({"name": "\ud800"}, ["name"], "unicode"),
    ({"name": "x" * 201}, ["name"], "at most 200"),
    ({"labels": {"version": 1}}, ["labels.version"], "string"),
    ({"batch": {"length": 1}}, ["batch.length"], "greater than or equal to 2"),
    ({"model.dtype": "float16"}, ["model.dtype"], "'float32' or 'bfloat16'"),
    ({"model": None}, ["model"], "mapping"),
    ({"forget": "python-functions"}, ["forget"], "mapping"),
    (
        {"budget": {"unlearn_passes": 11, "trials": 0}, "attack.passes": 3, "method.mask": "sing", "colour": "red"},
        ["attack.passes", "budget.trials", "budget.unlearn_passes", "colour", "method.mask"],
        "take 2 or 4",
    ),
    (
        {"model.id": 3, "method.unlearning_rate": {"low": 2, "high": 1}, "seeds.data": "x", "attack.rate": None},
        ["attack.rate", "method.unlearning_rate", "model.id", "seeds.data"],
        "must be below high",
    ),
    ({"budget.unlearn_passes": 11, "attack.passes": 5}, ["attack.passes", "budget.unlearn_passes"], "take 4 or 6"),
]


@pytest.mark.parametrize(("overrides", "paths", "words"), BAD, ids=lambda value: None)
def test_every_wrong_field_is_named_with_its_remedy(overrides, paths, words):
    faults = faults_of(overrides)

    assert sorted(fault.path for fault in faults) == paths
    assert all(fault.message and fault.remedy for fault in faults)
    assert words in "\n".join(map(str, faults))
    assert "\n".join(map(str, faults)).encode()  # can be written out


@pytest.mark.parametrize("data", [None, 3, "mudman", [], [SMALL], True, {1, 2}])
def test_what_is_no_mapping_is_no_study(data):
    with pytest.raises(SpecError, match="the document: must be a mapping"):
        parse(data)


def test_an_empty_document_misses_every_required_field():
    with pytest.raises(SpecError) as caught:
        parse({})
    assert [fault.path for fault in caught.value.faults] == [
        "name", "model", "forget", "retain", "method", "attack", "budget"
    ]  # fmt: skip


@given(JSON_DATA)
def test_any_data_is_refused_or_read_never_more(data):
    try:
        parse(data)
    except SpecError as error:
        assert error.faults
        str(error).encode()


@given(DOCUMENTS, st.data())
def test_any_damage_to_a_study_is_refused_or_read_never_more(document, data):
    section = data.draw(st.sampled_from(sorted(document)))
    place = document[section] if isinstance(document[section], dict) and data.draw(st.booleans()) else document
    place[data.draw(st.sampled_from(sorted(place)) if place else st.text())] = data.draw(JSON_DATA)
    try:
        parse(document)
    except SpecError as error:
        assert error.faults
        str(error).encode()


def test_a_fault_carries_a_json_pointer_and_survives_pickling():
    fault = FieldFault("labels.a/b~c", "m", "r")

    assert fault.pointer() == "/labels/a~1b~0c"
    assert FieldFault("", "m", "r").pointer() == ""
    assert pickle.loads(pickle.dumps(SpecError([fault]))).faults == [fault]


def test_unused_settings_are_listed_and_not_searched():
    spec = small(
        method__adversary={"type": "none", "decay": {"low": 0.1, "high": 0.9}},
        method__fork_every={"low": 2, "high": 8},
        method__normalization="none",
        method__rate_unit="l2",
        method__retaining_rate={"low": 0.1, "high": 0.2},
        budget__unlearn_passes=8,
    )

    assert spec.unused() == ["method.adversary.decay", "method.fork_every", "method.rate_unit"]
    assert list(spec.search_space()) == ["retaining_rate"]
    assert resolve(spec.method, {"retaining_rate": 0.15}).fork_every == 2


def test_ranges_of_nested_settings_are_searched_by_dotted_path():
    spec = small(method__adversary__decay={"low": 0.3, "high": 1.0})

    assert list(spec.search_space()) == ["adversary.decay"]
    assert resolve(spec.method, {"adversary.decay": 0.5}).adversary.decay == 0.5


class TestIdentity:
    def test_neither_order_nor_defaults_matter(self):
        reordered = dict(reversed(list(merged(SMALL, {"seeds": {"trial": 42, "data": 42}, "priority": 0}).items())))
        reordered["method"] = {**reordered["method"], "mask": "sign", "adversary": {"type": "fork"}, "fork_every": 32.0}

        assert parse(reordered).identity() == small().identity()

    def test_numbers_are_compared_by_value(self):
        assert small(method__unlearning_rate=1).identity() == small(method__unlearning_rate=1.0).identity()

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("method.unlearning_rate", 0.02),
            ("method.mask", "none"),
            ("method.adversary", {"decay": 0.5}),
            ("method.representation_loss", None),
            ("seeds.trial", 1),
            ("model.id", "tiny-neox"),
            ("budget.trials", 3),
            ("constraint", {"retain_loss_increase": 0.0}),
        ],
    )
    def test_values_do(self, path, value):
        changed = parse(merged(SMALL, {path: value})).identity()

        assert (changed == small().identity()) == (value is None)

    def test_is_stable_between_processes_and_releases(self):
        # A stored identity must keep meaning the same study: change SPEC_VERSION when this has to change.
        assert small().identity() == IDENTITY_OF_SMALL


IDENTITY_OF_SMALL = "be9ec4ce3151d625d70264c7ccdf9b9d019ced66eab2c16f3f4138cde3639fe3"


class TestResolve:
    SPEC = parse_as(MudmanSpec, {**SMALL["method"], "unlearning_rate": {"low": 0.1, "high": 0.2}})

    def test_fills_every_range(self):
        assert resolve(self.SPEC, {"unlearning_rate": 0.15}).unlearning_rate == 0.15

    def test_chosen_values_may_leave_the_range_but_not_the_bounds(self):
        assert resolve(self.SPEC, {"unlearning_rate": 7}).unlearning_rate == 7
        with pytest.raises(SpecError, match=r"method.unlearning_rate: must be at least 0"):
            resolve(self.SPEC, {"unlearning_rate": -1})

    def test_a_fixed_number_may_be_chosen_too(self):
        assert resolve(self.SPEC, {"unlearning_rate": 0.1, "adversary.decay": 0.2}).adversary.decay == 0.2

    def test_reports_missing_and_unknown_names_together(self):
        with pytest.raises(SpecError) as caught:
            resolve(self.SPEC, {"unlearning": 0.1, "mask": 1.0})
        assert [fault.path for fault in caught.value.faults] == [
            "method.unlearning", "method.mask", "method.unlearning_rate"
        ]  # fmt: skip
        assert "target_modules" not in str(caught.value)

    @pytest.mark.parametrize("value", [math.nan, math.inf, True, "0.1", None])
    def test_refuses_what_is_no_number(self, value):
        with pytest.raises(SpecError, match=r"method\.unlearning_rate: "):
            resolve(self.SPEC, {"unlearning_rate": value})

    def test_no_unlearning_has_no_numbers(self):
        assert resolve(NoUnlearning(type="none"), {}) == NoUnlearning(type="none")
        with pytest.raises(SpecError, match="this method has no numbers"):
            resolve(NoUnlearning(type="none"), {"unlearning_rate": 1.0})


@given(SPECS)
def test_the_middles_of_a_search_space_make_a_method(spec):
    values = {path: space.middle() for path, space in spec.search_space().items()}

    assert all(space.low <= values[path] <= space.high for path, space in spec.search_space().items())
    assert not [r for r in resolve(spec.method, values).model_dump().values() if isinstance(r, dict) and "low" in r]


def test_the_middle_of_extreme_ranges():
    assert Range(low=1e-300, high=1e-200, log=True).middle() == pytest.approx(1e-250)
    assert Range(low=1e308, high=1.5e308).middle() == pytest.approx(1.25e308)
    assert Range(low=6, high=42, int=True).middle() == 24


def test_specs_are_frozen():
    spec = small()
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        spec.method.adversary.decay = 0.5


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ({}, 5),
        ({"adversary": {"type": "none"}}, 4),
        ({"representation_loss": {}}, 6),
        ({"adversary": {"type": "none"}, "representation_loss": {}}, 5),
        ({"adversary": {"gradient": "fresh"}}, 5),
        ({"adversary": {"gradient": "reuse"}}, 5),
    ],
)
def test_passes_of_a_loop_are_booked_as_published(method, passes):
    assert parse_as(MudmanSpec, {**SMALL["method"], **method}).passes_per_loop() == passes


def test_passes_of_an_attack_loop():
    assert AttackSpec(rate=0.1, passes=8).passes_per_loop() == 2
    assert AttackSpec(rate=0.1, passes=8, retain=True).passes_per_loop() == 4
