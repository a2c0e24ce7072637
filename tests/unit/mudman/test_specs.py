"""The vocabulary: what is a study, what is not, and how each wrong field is named."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_spec import SMALL, small
from strategies import DOCUMENTS, JSON_DATA, SPECS

from mudman.documents import read_json, read_yaml
from mudman.faults import FieldFault, SpecError
from mudman.presets import merged
from mudman.specs import AttackSpec, MudmanSpec, Range, parse, parse_as, resolve

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


def test_settings_that_the_sampler_does_not_use_are_listed():
    given = {"startup_trials": 3, "points": 4, "population": 8, "sigma": 0.1}
    unused = {
        "tpe": ["points", "population", "sigma"],
        "random": ["points", "population", "sigma", "startup_trials"],
        "grid": ["population", "sigma", "startup_trials"],
        "cmaes": ["points", "startup_trials"],
        "gp": ["points", "population", "sigma"],
    }
    for name, idle in unused.items():
        spec = small(sampler={"type": name, **given}, budget__trials=1)
        assert spec.unused() == [f"sampler.{field}" for field in idle]
        assert small(sampler=name, budget__trials=1).sampler.type == name


def test_levels_of_a_range_by_hand():
    assert Range(low=0, high=1).levels(5) == (0, 0.25, 0.5, 0.75, 1)
    assert Range(low=1e-4, high=1, log=True).levels(3) == pytest.approx((1e-4, 1e-2, 1))
    assert Range(low=6, high=42, int=True).levels(4) == (6, 18, 30, 42)
    assert Range(low=1, high=3, int=True).levels(10) == (1, 2, 3)
    assert Range(low=1, high=64, log=True, int=True).levels(4) == (1, 4, 16, 64)
    assert Range(low=1e-4, high=1, log=True).levels(1) == pytest.approx((1e-2,))


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
