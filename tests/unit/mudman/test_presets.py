"""Packaged studies, and laying overrides over them."""

import pytest

from mudman import presets
from mudman.faults import SpecError
from mudman.registry import source_faults
from mudman.specs import parse


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_a_study_that_names_what_exists(name):
    spec = parse(presets.load(name))

    assert spec.name == name
    assert spec.labels["preset"] == name
    assert spec.unused() == []
    assert source_faults(spec) == []
    if spec.method.type != "none":
        assert spec.search_space()


def test_the_first_run_has_a_preset():
    assert "quickstart" in presets.names()


@pytest.mark.parametrize("name", ["quick", "", "../presets/quickstart", "quickstart.yaml", "/etc/passwd"])
def test_an_unknown_preset_is_answered_with_the_known_ones(name):
    with pytest.raises(SpecError, match="quickstart") as caught:
        presets.load(name)
    assert caught.value.faults[0].path == "preset"


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

    def test_that_fit_nowhere_are_named_by_the_spec(self):
        with pytest.raises(SpecError, match=r"method\.adversry"):
            parse(self.load(method__adversry__decay=1))
