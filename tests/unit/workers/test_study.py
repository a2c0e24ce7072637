"""What a trial is given: a spec whose branches are pinned to what the preparation found."""

from mudman import presets
from mudman.specs import StudySpec, parse
from workers.study import _pinned


def test_trials_use_the_revisions_that_were_prepared():
    changes = {"model.id": "org/model", "forget.corpus": "org/facts", "attack.texts": {"corpus": "org/others"}}
    spec = parse(presets.load("quickstart", changes))
    found = {"forget": "f1", "retain": "r1", "attack": "a1"}
    preparation = {"model_revision": "m1", "corpora": {field: {"revision": at} for field, at in found.items()}}
    pinned = _pinned(spec, preparation)
    assert (pinned.model.revision, pinned.forget.revision, pinned.retain.revision) == ("m1", "f1", "r1")
    assert pinned.attack.texts == spec.attack.texts.model_copy(update={"revision": "a1"})
    assert pinned.attack.rate == spec.attack.rate
    assert StudySpec.model_validate_json(pinned.model_dump_json()) == pinned
    assert _pinned(spec, None) == spec
