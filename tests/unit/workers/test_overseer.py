"""What happens on Tune's thread between its steps, without Tune: of its trials there is as much as is looked at."""

from types import SimpleNamespace

import pytest

import workers.overseer
from mudman.results import Outcome, TrialResult
from mudman.specs import ResourcesSpec
from workers.actor import WORD
from workers.book import Attempt
from workers.desk import START, Desk
from workers.orders import Word
from workers.overseer import LOOK, Overseer
from workers.places import AVOID, Places
from workers.searcher import DeskGenerator, DeskSearcher, DeskStopper


class Scene:
    """One desk with two trials that Tune has taken, and the overseer of its run; only the second one's process has not
    started yet."""

    def __init__(self, clock: list[float]):
        self.clock, self.desk, self.halted = clock, Desk(), []
        self.places = Places(self.desk, ResourcesSpec())
        self.overseer = Overseer(self.desk, self.places, {"study": ResourcesSpec()})
        for ordinal, name in enumerate("ab"):
            self.desk.offer(Attempt("study", ordinal, 1, {}))
            self.desk.take(name, 0)
        self.trials = [self.trial("a", started=True), self.trial("b", started=False)]
        self.overseer.hear("a", said())

    def trial(self, name: str, started: bool) -> SimpleNamespace:
        order_to_halt = SimpleNamespace(remote=lambda: self.halted.append(name))
        state = SimpleNamespace(ray_actor=SimpleNamespace(halt=order_to_halt) if started else None)
        return SimpleNamespace(trial_id=name, config={AVOID: []}, temporary_state=state, is_finished=lambda: False)

    def pass_by(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.overseer.on_step_end(0, self.trials)


def said(outcome: Outcome | None = None) -> Word:
    result = TrialResult(outcome=outcome).model_dump(mode="json") if outcome else None
    return Word(worker={"node_id": "node"}, result=result)


@pytest.fixture
def scene(monkeypatch) -> Scene:
    clock = [1000.0]
    for module in (workers.overseer, workers.desk):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return Scene(clock)


def test_a_process_is_kept_while_another_starts_and_no_longer(scene):
    assert not scene.overseer.hear("a", said(Outcome.VALID)), "kept from Tune"
    scene.pass_by(LOOK)
    assert scene.halted == []
    scene.overseer.hear("b", said())
    assert scene.overseer.hear("a", said(Outcome.VALID)), "the other one has started: Tune may have it"


def test_a_kept_process_that_says_nothing_more_is_told_to_end(scene):
    """It froze: nobody else would ever end it, and it holds its cores."""
    scene.overseer.hear("a", said(Outcome.VALID))
    scene.pass_by(START - 1)
    assert scene.halted == []
    scene.pass_by(1)
    assert scene.halted == ["a"]


def test_what_is_taken_later_is_for_the_process_that_is_free(scene):
    """It has no process on its way; kept for it too, all that are free would wait for each other."""
    assert not scene.overseer.hear("a", said(Outcome.VALID))
    scene.clock[0] += 1
    scene.overseer.hear("b", said())
    scene.desk.offer(Attempt("study", 2, 1, {}))
    scene.desk.take("c", 0)
    assert scene.desk.place_is_coming(scene.clock[0])
    assert scene.overseer.hear("a", said(Outcome.VALID))


def test_tune_keeps_nothing_of_what_a_trial_said(scene):
    """Its last result, with log and traces, stays with every trial until the run is over."""
    stopper = DeskStopper(scene.desk, scene.overseer, scene.places)
    reported = {WORD: said().model_dump_json(), "training_iteration": 1}
    assert not stopper("a", reported)
    assert reported == {"training_iteration": 1}


def test_a_share_that_changes_within_a_step_changes_nothing_before_the_next(scene):
    """Tune asks whether it is over twice in a row, and fails if the answers differ."""
    search = DeskGenerator(DeskSearcher(scene.desk, {}, scene.places), scene.overseer)
    search._total_samples = 100  # of which there is no end, in a run
    scene.overseer.on_step_begin(0, [])
    assert not search.is_finished()
    scene.desk.limit = 1
    assert not search.is_finished()
    scene.overseer.on_step_begin(1, [])
    assert search.is_finished()
    scene.desk.limit = None
    assert search.is_finished()


def test_a_step_that_waits_for_a_trial_hears_that_the_share_is_gone(scene):
    """Tune may wait for minutes within one step, and asks on."""
    search = DeskGenerator(DeskSearcher(scene.desk, {}, scene.places), scene.overseer)
    search._total_samples = 100
    scene.overseer.on_step_begin(0, [])
    scene.desk.limit = 0
    assert search.next_trial() is None
    assert search.is_finished()


def test_a_process_that_has_just_become_free_is_not_let_go(scene):
    """With its whole share at work, a trial's end is not the end of the share: the next trial is for that process."""
    scene.overseer.hear("b", said())
    scene.desk.limit = 2
    scene.overseer.look_at_share()
    assert scene.overseer.sated
    assert scene.overseer.hear("a", said(Outcome.VALID))
    assert not scene.overseer.sated, "Tune looks at the end of this step"


def test_nobody_is_kept_for_a_trial_that_has_a_process(scene):
    """It was given one that was free, and has only not spoken yet."""
    scene.overseer.on_step_begin(0, scene.trials)
    scene.trials[1].temporary_state.ray_actor = object()
    assert scene.overseer.hear("a", said(Outcome.VALID))
