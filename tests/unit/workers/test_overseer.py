"""What happens on Tune's thread, without Tune: of its trials, which are places, there is as much as is looked at."""

from types import SimpleNamespace

import cloudpickle
import pytest
import ray
from ray.exceptions import OutOfMemoryError

import workers.overseer
from mudman import presets
from mudman.results import Fault, Outcome, TrialResult
from mudman.specs import ResourcesSpec, parse
from workers.actor import PATIENCE, WORD
from workers.book import Attempt, Book
from workers.causes import KilledForMemory
from workers.desk import Desk
from workers.orders import Order, Word
from workers.overseer import LOOK, SPEAKS, Overseer
from workers.places import AVOID, Places
from workers.searcher import PlaceGenerator, PlaceSearcher, PlaceStopper

SPEC = parse(presets.load("quickstart", {"model.id": "simulated"}))


class Scene:
    """One desk, and the overseer of a run; places are added as Tune would."""

    def __init__(self, clock: list[float]):
        self.clock, self.desk = clock, Desk()
        self.places = Places(self.desk, ResourcesSpec())
        books = {name: Book(name, SPEC) for name in ("study", "other")}
        self.overseer = Overseer(self.desk, self.places, books)
        self.searcher = PlaceSearcher(self.desk, self.overseer, self.places)
        self.trials: list[SimpleNamespace] = []
        self.begun: list[tuple[str, int]] = []
        """Place and ordinal, in the order in which places were told."""
        self.halted: list[str] = []
        self.killed: list[str] = []
        self.overseer.on_step_begin(0, self.trials)

    def offer(self, *ordinals: int, study: str = "study") -> None:
        for ordinal in ordinals:
            self.desk.offer(Attempt(study, ordinal, 1, {}))

    def place(self, name: str, started: bool = True) -> SimpleNamespace:
        def begin(order: str) -> None:
            self.begun.append((name, Order.model_validate_json(order).ordinal))

        actor = SimpleNamespace(
            name=name,
            begin=SimpleNamespace(remote=begin),
            halt=SimpleNamespace(remote=lambda: self.halted.append(name)),
        )
        trial = SimpleNamespace(trial_id=name, config={AVOID: []}, pickled_error_file=None, over=False)
        trial.temporary_state = SimpleNamespace(ray_actor=actor if started else None)
        trial.is_finished = lambda: trial.over
        self.trials.append(trial)
        return trial

    def says(
        self,
        place: str,
        outcome: Outcome | None = None,
        node: str = "node",
        passes: int | None = None,
        fault: Fault | None = None,
    ) -> bool:
        """Whether the place is let go."""
        progress = None if passes is None else {"phase": "unlearn", "passes": passes}
        result = TrialResult(outcome=outcome, fault=fault) if outcome else None
        return self.overseer.hear(place, Word(worker={"node_id": node}, progress=progress, result=result))

    def settle(self) -> list[tuple[int, str]]:
        """As the ledger does: ordinals and outcomes of what has ended."""
        ended = [(attempt.ordinal, str(result.outcome)) for attempt, result in self.desk.ended()]
        self.desk.settled()
        return ended

    def pass_by(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.overseer.on_step_end(0, self.trials)


@pytest.fixture
def scene(monkeypatch) -> Scene:
    clock = [1000.0]
    monkeypatch.setattr(workers.overseer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(workers.overseer, "HANDOVER", 0.01)
    scene = Scene(clock)
    monkeypatch.setattr(ray, "kill", lambda actor: scene.killed.append(actor.name))
    return scene


def test_a_place_is_given_one_trial_after_the_other(scene):
    scene.offer(0, 1)
    scene.place("a")
    assert not scene.says("a")
    assert not scene.says("a", passes=3)
    assert scene.begun == [("a", 0)], "one at a time"
    assert not scene.says("a", Outcome.VALID)
    assert scene.begun == [("a", 0), ("a", 1)]
    assert scene.settle() == [(0, "valid")]


def test_what_waited_for_a_process_that_was_killed_for_memory_as_it_started_is_run_again(scene, tmp_path):
    """It has not run: it cannot have been what took the memory."""
    scene.offer(0)
    trial = scene.place("a", started=False)
    error = tmp_path / "error.pkl"
    error.write_bytes(cloudpickle.dumps(KilledForMemory.of(OutOfMemoryError("Memory on the node x"))))
    trial.over, trial.pickled_error_file = True, str(error)
    scene.overseer.on_trial_error(1, scene.trials, trial)
    [(_, result)] = scene.desk.ended()
    assert (result.outcome, result.fault.type) == ("lost", "OutOfMemoryError")


def test_places_are_asked_for_while_more_waits_than_there_are(scene):
    scene.offer(0, 1)
    assert scene.searcher.suggest("a") == {AVOID: []}
    scene.place("a", started=False)
    assert scene.searcher.suggest("b") == {AVOID: []}
    scene.place("b", started=False)
    assert scene.searcher.suggest("c") is None, "two are on their way"
    scene.desk.limit = 2
    for trial in scene.trials:
        trial.temporary_state.ray_actor = SimpleNamespace(begin=SimpleNamespace(remote=lambda order: None))
        scene.says(trial.trial_id)
    scene.desk.limit = None
    scene.offer(2)
    scene.desk.limit = 3
    assert scene.searcher.suggest("c") == {AVOID: []}


def test_no_more_places_are_asked_for_than_the_share_allows(scene):
    scene.desk.limit = 1
    scene.offer(0, 1)
    scene.place("a", started=False)
    assert scene.searcher.suggest("b") is None
    scene.trials[0].over = True
    assert scene.searcher.suggest("b") == {AVOID: []}, "that one is gone"


def test_a_free_place_waits_for_more_unless_the_share_has_shrunk(scene):
    scene.offer(0, 1)
    for name in "ab":
        scene.place(name)
        scene.says(name)
    scene.desk.limit = 2
    for name in "ab":
        assert not scene.says(name, Outcome.VALID), "the ledger may offer more"
    scene.settle()
    assert not scene.says("a") and not scene.says("b")
    scene.desk.limit = 1
    assert scene.says("a"), "one too many"
    assert not scene.says("b"), "and no longer"
    scene.desk.limit = 0
    assert scene.says("b")


def test_a_free_place_where_its_study_does_not_go_makes_room_for_another(scene, monkeypatch):
    monkeypatch.setattr(scene.places, "avoid", lambda study_id: frozenset(["broken"]))
    scene.offer(0)
    scene.place("a")
    assert scene.says("a", node="broken")
    scene.trials[0].over = True
    assert scene.searcher.suggest("b") == {AVOID: ["broken"]}
    scene.place("b")
    assert not scene.says("b", node="good")
    assert scene.begun == [("b", 0)]


def test_a_lost_trial_runs_again_on_another_node_if_there_is_one(scene):
    """On the same one it may be lost as often as it is tried."""
    scene.offer(0, 1)
    for name, node in (("a", "broken"), ("b", "sound")):
        scene.place(name)
        scene.says(name, node=node)
    scene.says("a", Outcome.LOST, node="broken")
    scene.desk.offer(Attempt("study", 0, 2, {}))
    assert not scene.says("a", node="broken"), "it is given what comes next"
    scene.offer(2)
    scene.says("a", node="broken")
    assert scene.begun[-1] == ("a", 2)
    scene.says("b", Outcome.VALID, node="sound")
    assert scene.begun[-1] == ("b", 0)


def test_where_there_is_no_other_node_it_runs_there(scene):
    scene.offer(0)
    scene.place("a")
    scene.says("a", node="only")
    scene.says("a", Outcome.LOST, node="only")
    scene.desk.offer(Attempt("study", 0, 2, {}))
    scene.says("a", node="only")
    assert scene.begun == [("a", 0), ("a", 0)]


def pinned(scene) -> None:
    """Two studies with a device each, and the fourth trial of each runs."""
    for name, node in (("a", "here"), ("b", "there")):
        scene.place(name)
        scene.says(name, node=node)
    for number in range(4):
        scene.offer(number)
        scene.says("a", Outcome.VALID if number else None, node="here")
        scene.offer(100 + number, study="other")
        scene.says("b", Outcome.VALID if number else None, node="there")
    scene.begun.clear()


def test_two_studies_with_a_device_each_change_places(scene):
    pinned(scene)
    scene.offer(4)
    assert not scene.says("a", Outcome.VALID, node="here"), "it stays, and waits"
    assert not scene.says("a", node="here")
    assert scene.searcher.suggest("c") is None, "nor is another place asked for"
    assert scene.begun == []
    assert not scene.says("b", Outcome.VALID, node="there")
    scene.offer(104, study="other")
    assert not scene.says("a", node="here")
    assert scene.begun == [("b", 4), ("a", 104)]


def test_a_study_waits_for_no_device_on_which_nothing_runs(scene):
    pinned(scene)
    scene.offer(4)
    scene.says("a", Outcome.VALID, node="here")
    scene.trials[1].over = True  # its process is gone
    scene.pass_by(LOOK)
    scene.says("a", node="here")
    assert scene.begun == [("a", 4)]


def test_a_withdrawn_trial_is_told_to_end_and_its_place_is_free_when_it_has(scene):
    """Before, another trial begun there would run beside it, or die with it."""
    scene.offer(0)
    scene.place("a")
    scene.says("a")
    scene.desk.withdraw("study")
    scene.offer(1)
    assert not scene.says("a", passes=5)
    scene.pass_by(LOOK)
    scene.pass_by(LOOK)
    assert scene.halted == ["a"]
    assert scene.begun == [("a", 0)]
    assert not scene.says("a", Outcome.CANCELLED)
    assert scene.begun == [("a", 0), ("a", 1)]
    assert scene.settle() == [(0, "cancelled")]


def test_a_trial_that_does_not_obey_is_killed_with_its_process(scene):
    scene.offer(0)
    trial = scene.place("a")
    scene.says("a")
    scene.desk.withdraw("study")
    scene.pass_by(LOOK)
    scene.pass_by(PATIENCE)
    assert (scene.halted, scene.killed) == (["a"], [])
    scene.pass_by(LOOK)
    assert scene.killed == ["a"]
    trial.over = True
    scene.pass_by(LOOK)
    scene.offer(1)
    assert scene.searcher.suggest("b") == {AVOID: []}


def test_a_place_without_a_trial_that_says_nothing_more_is_killed(scene):
    """It froze: nobody else would ever end it, and it holds its cores."""
    scene.place("a")
    scene.says("a")
    scene.pass_by(SPEAKS)
    scene.says("a")
    scene.pass_by(SPEAKS)
    assert scene.killed == []
    scene.pass_by(LOOK)
    assert scene.killed == ["a"]


def test_what_runs_where_a_process_died_is_lost(scene):
    scene.offer(0)
    trial = scene.place("a")
    scene.says("a")
    trial.over = True
    scene.overseer.on_trial_error(1, scene.trials, trial)
    [(attempt, result)] = scene.desk.ended()
    assert (attempt.ordinal, result.outcome, result.fault.type) == (0, Outcome.LOST, "WorkerDied")


def test_what_waits_for_a_process_that_cannot_start_is_lost_too(scene, tmp_path):
    """Otherwise one process after the other would be started for it, for ever."""
    scene.offer(0, 1)
    trial = scene.place("a", started=False)
    trial.over, trial.pickled_error_file = True, str(tmp_path / "error.pkl")
    (tmp_path / "error.pkl").write_bytes(cloudpickle.dumps(ImportError("no module")))
    scene.overseer.on_trial_error(1, scene.trials, trial)
    scene.pass_by(LOOK)
    [(attempt, result)] = scene.desk.ended()
    assert (attempt.ordinal, result.outcome, result.fault.type) == (0, Outcome.LOST, "WorkerDied")
    assert "ImportError: no module" in result.fault.message
    assert scene.desk.waiting == 1


def test_a_trial_that_makes_no_pass_is_lost_and_told_to_end(scene):
    scene.offer(0)
    scene.place("a")
    scene.says("a")
    scene.pass_by(SPEC.resources.max_silence)
    scene.says("a", passes=1)
    scene.pass_by(SPEC.resources.max_silence)
    assert scene.desk.holds("a")
    scene.says("a", passes=1)
    scene.pass_by(1)
    [(_, result)] = scene.desk.ended()
    assert (result.outcome, result.fault.type) == (Outcome.LOST, "DeadlineExceeded")
    scene.pass_by(LOOK)
    assert scene.halted == ["a"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(type="AcceleratorError", message="device-side assert triggered"),
        Fault(type="RuntimeError", message="CUDA error: an illegal memory access was encountered"),
    ],
    ids=["torch's own", "words"],
)
def test_a_process_whose_card_has_failed_is_given_no_other_trial(scene, fault):
    """Every later call in it raises the same error: it would go through the whole study."""
    scene.offer(0, 1)
    scene.place("a")
    scene.says("a")
    assert scene.says("a", Outcome.ERROR, fault=fault), "it is let go"
    assert scene.begun == [("a", 0)]
    [(attempt, result)] = scene.desk.ended()
    assert (attempt.ordinal, result.outcome) == (0, Outcome.LOST), "and the trial runs again"
    assert result.fault.type == fault.type
    assert fault.message in result.fault.message
    scene.trials[0].over = True
    assert scene.searcher.suggest("b") == {AVOID: []}


@pytest.mark.parametrize(("outcome", "message"), [
    (Outcome.OUT_OF_MEMORY, "CUDA error: out of memory"),
    (Outcome.ERROR, "index out of range"),
])  # fmt: skip
def test_a_process_that_is_sound_keeps_its_place(scene, outcome, message):
    scene.offer(0, 1)
    scene.place("a")
    scene.says("a")
    assert not scene.says("a", outcome, fault=Fault(type="RuntimeError", message=message))
    assert scene.begun == [("a", 0), ("a", 1)]
    assert scene.settle() == [(0, str(outcome))]


def test_what_ends_at_a_place_speaks_for_or_against_its_node(scene, monkeypatch):
    told = []
    monkeypatch.setattr(scene.places, "told", lambda node, attempt, result: told.append((node, result.outcome)))
    scene.offer(0, 1)
    scene.place("a")
    scene.says("a", node="one")
    scene.says("a", Outcome.ERROR, node="one")
    scene.desk.lose("a", TrialResult(outcome=Outcome.LOST, fault=Fault(type="Somebody", message="else")))
    scene.says("a", Outcome.VALID, node="one")
    assert told == [("one", Outcome.ERROR)], "what comes too late is no evidence"


def test_tune_keeps_nothing_of_what_a_place_said(scene):
    """Its last result, with log and traces, stays with every place until the run is over."""
    scene.place("a")
    stopper = PlaceStopper(scene.desk, scene.overseer, scene.places)
    reported = {WORD: Word(worker={"node_id": "node"}).model_dump_json(), "training_iteration": 1}
    assert not stopper("a", reported)
    assert reported == {"training_iteration": 1}


def test_a_share_that_changes_within_a_step_changes_nothing_before_the_next(scene):
    """Tune asks whether it is over twice in a row, and fails if the answers differ."""
    search = PlaceGenerator(scene.searcher, scene.overseer)
    search._total_samples = 100  # of which there is no end, in a run
    scene.overseer.on_step_begin(0, [])
    assert not search.is_finished()
    scene.desk.limit = 0
    assert not search.is_finished()
    scene.overseer.on_step_begin(1, [])
    assert search.is_finished()
    scene.desk.limit = None
    assert search.is_finished()


def test_a_step_that_waits_for_an_attempt_hears_that_the_share_is_gone(scene):
    """Tune may wait for minutes within one step, and asks on."""
    search = PlaceGenerator(scene.searcher, scene.overseer)
    search._total_samples = 100
    scene.overseer.on_step_begin(0, [])
    scene.desk.limit = 0
    assert search.next_trial() is None
    assert search.is_finished()
