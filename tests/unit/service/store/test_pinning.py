"""What a trial is given: a spec whose branches are pinned to what the preparation found."""

from mudman import presets
from mudman.specs import StudySpec, parse
from service.store.pinning import pinned


def test_trials_use_the_revisions_that_were_prepared():
    changes = {"model.id": "org/model", "forget.corpus": "org/facts", "attack.texts": {"corpus": "org/others"}}
    spec = parse(presets.load("quickstart", changes))
    found = {"forget": "f1", "retain": "r1", "attack": "a1"}
    preparation = {"model_revision": "m1", "corpora": {field: {"revision": at} for field, at in found.items()}}
    fixed = pinned(spec, preparation)
    assert (fixed.model.revision, fixed.forget.revision, fixed.retain.revision) == ("m1", "f1", "r1")
    assert fixed.attack.texts == spec.attack.texts.model_copy(update={"revision": "a1"})
    assert fixed.attack.rate == spec.attack.rate
    assert StudySpec.model_validate_json(fixed.model_dump_json()) == fixed
    assert pinned(spec, None) == spec
