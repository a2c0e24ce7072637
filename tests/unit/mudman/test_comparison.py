"""A comparison document: its studies, and every fault of it where it can be mended."""

import pytest

from mudman import presets
from mudman.faults import SpecError
from mudman.specs import parse
from mudman.specs.comparison import parse_comparison

BASE = presets.load("quickstart") | {"name": "masks", "owner": "ada"}


def comparison(variants: dict, **changes):
    return parse_comparison(BASE | changes | {"variants": variants})


def faults(document) -> dict[str, str]:
    """Pointers by path."""
    with pytest.raises(SpecError) as refused:
        parse_comparison(document)
    paths = [fault.path for fault in refused.value.faults]
    assert len(paths) == len(set(paths)), "each once"
    return {fault.path: fault.pointer() for fault in refused.value.faults}


def test_a_study_for_each_variant_and_the_baseline():
    found = comparison({"sign": {}, "no mask": {"method.mask": "none"}, "long": {"budget": {"trials": 20}}})
    assert list(found.studies) == ["sign", "no mask", "long", "baseline"]
    assert (found.name, found.owner) == ("masks", "ada")
    assert found.variants["sign"] == parse(BASE | {"name": "masks/sign"})
    assert found.variants["no mask"].method.mask.type == "none"
    assert found.variants["long"].budget.trials == 20
    assert found.variants["long"].budget.unlearn_passes == BASE["budget"]["unlearn_passes"]
    untouched, base = found.baseline, parse(BASE)
    assert (untouched.name, untouched.method.type, untouched.budget.trials) == ("masks/baseline", "none", 1)
    assert untouched.constraint is None
    for same in ("owner", "model", "forget", "retain", "batch", "attack", "objective", "evaluations", "seeds"):
        assert getattr(untouched, same) == getattr(base, same)


def test_without_a_baseline():
    found = comparison({"baseline": {}}, baseline=False)
    assert found.baseline is None
    assert list(found.studies) == ["baseline"]
    assert found.studies["baseline"].method.type == "mudman"


def test_identity_is_of_the_studies_meant():
    one = comparison({"a": {}, "b": {"method.mask": "none"}})
    other = comparison({"b": {"method": {"mask": {"type": "none"}}}, "a": {}})
    assert one.identity() == other.identity()
    assert one.identity() != comparison({"a": {}, "b": {"method.mask": "sign"}}).identity()
    assert one.identity() != comparison({"a": {}, "b": {"method.mask": "none"}}, baseline=False).identity()


def test_the_base_is_wrong_once_and_variants_under_their_names():
    document = BASE | {"bogus": 1, "variants": {"x": {}, "y": {"method.mask": "nope", "attack": {"rate": 0}}}}
    assert faults(document) == {
        "bogus": "/bogus",
        "variants.y.method.mask": "/variants/y/method.mask",
        "variants.y.attack.rate": "/variants/y/attack/rate",
    }


def test_a_base_may_lack_what_every_variant_gives():
    base = {key: value for key, value in BASE.items() if key != "method"}
    found = parse_comparison(base | {"variants": {"sign": {"method": BASE["method"]}}})
    assert found.variants["sign"].method == parse(BASE).method
    assert faults(base | {"variants": {"sign": {"method": BASE["method"]}, "bare": {}}}) == {"method": "/method"}


def test_what_only_the_baseline_lacks():
    base = {key: value for key, value in BASE.items() if key != "model"}
    document = base | {"variants": {"one": {"model": {"id": "tiny-llama"}}}}
    with pytest.raises(SpecError) as refused:
        parse_comparison(document)
    [fault] = refused.value.faults
    assert (fault.path, fault.remedy) == ("model", "add this field, or set baseline: false")
    assert parse_comparison(document | {"baseline": False}).baseline is None
    with pytest.raises(SpecError) as refused:
        parse_comparison(base | {"variants": {"one": {}}})
    assert [fault.remedy for fault in refused.value.faults] == ["add this field"]


@pytest.mark.parametrize(
    ("variants", "paths"),
    [
        (None, ["variants"]),
        ({}, ["variants"]),
        (["a"], ["variants"]),
        ({"a/b": {}}, ["variants.a/b"]),
        ({"a.b": {}}, ["variants.a.b"]),
        ({"": {}}, ["variants."]),
        ({"baseline": {}}, ["variants.baseline"]),
        ({"a": 3}, ["variants.a"]),
        ({"a": {"name": "b", "owner": "c"}}, ["variants.a.name", "variants.a.owner"]),
    ],
)
def test_variants_of_the_wrong_form(variants, paths):
    assert list(faults(BASE | {"variants": variants})) == paths


def test_all_faults_at_once():
    found = faults(BASE | {"bogus": 1, "baseline": "no", "variants": {"a.b": {}, "c": {"method.mask": "nope"}}})
    assert found == {
        "bogus": "/bogus",
        "baseline": "/baseline",
        "variants.a.b": "/variants/a.b",
        "variants.c.method.mask": "/variants/c/method.mask",
    }


def test_what_is_no_document():
    assert faults([]) == {"": ""}
