"""The desk between Tune's thread and the ledger's, and the searcher and stopper that speak for it."""

import copy
import math
import pickle
import threading
import time
from types import SimpleNamespace

import pytest

import workers.desk
from mudman.results import Fault, Outcome, TrialResult
from workers.book import Attempt
from workers.desk import HANDOVER, START, Desk
from workers.orders import Word


def attempt(ordinal: int, study: str = "study") -> Attempt:
    return Attempt(study, ordinal, 1, {"rate": 0.5})


def word(outcome: Outcome | None = None) -> Word:
    result = TrialResult(outcome=outcome).model_dump(mode="json") if outcome else None
    return Word(worker={"pid": 1}, progress={"phase": "unlearn", "passes": 1}, result=result)


def test_an_attempt_goes_from_offer_to_result():
    desk = Desk()
    desk.offer(attempt(0))
    assert desk.take("a", 0) == attempt(0)
    assert not desk.hear("a", word())
    assert desk.news
    assert desk.words() == {attempt(0): word()}
    assert desk.words() == {}
    assert desk.hear("a", word(Outcome.VALID)), "Tune may end the trial"
    assert desk.hear("a", word(Outcome.VALID)), "a repeated last result changes nothing"
    assert desk.lose("a", TrialResult(outcome=Outcome.LOST)) is None
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(0), Outcome.VALID)]
    assert desk.ended() == []


def test_a_trial_is_lost_once_with_its_cause():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    assert desk.holds("a") == attempt(0)
    lost = TrialResult(outcome=Outcome.LOST, fault=Fault(type="WorkerDied", message="killed"))
    assert desk.lose("a", lost) == attempt(0)
    assert desk.lose("a", lost) is desk.holds("a") is None
    assert desk.ended() == [(attempt(0), lost)]


def test_no_more_is_taken_than_the_share_allows():
    desk = Desk()
    desk.limit = 1
    desk.offer(attempt(0))
    desk.offer(attempt(1))
    assert not desk.sated
    assert desk.take("a", 0) == attempt(0)
    assert desk.sated
    assert desk.take("b", 0) is None
    desk.hear("a", word(Outcome.VALID))
    assert desk.wait_for_place(0)
    assert desk.take("b", 0) == attempt(1)


def test_what_the_share_has_no_place_for_any_more_is_given_back():
    desk = Desk()
    for ordinal in range(3):
        desk.offer(attempt(ordinal))
    assert desk.take("a", 0) == attempt(0)
    desk.limit = 2
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(2), Outcome.CANCELLED)]
    desk.limit = 0
    assert [one for one, _ in desk.ended()] == [attempt(1)]
    assert desk.holds("a") == attempt(0), "what runs is left alone"
    desk.hear("a", word(Outcome.VALID))
    assert not desk.wait_for_place(0)
    desk.offer(attempt(3))
    started = time.monotonic()
    assert desk.take("b", 0.2) is None
    assert time.monotonic() - started >= 0.2, "nobody asks at full speed for what may not be had"
    desk.limit = None
    assert desk.take("b", 0) == attempt(3)


def test_what_lived_when_tune_ended_is_begun_again():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    desk.clear()
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(0), Outcome.CANCELLED)]


def test_a_blamed_node_is_kept_until_it_is_seen_to():
    desk = Desk()
    desk.blame("node", "reason")
    assert desk.blamed == desk.blamed == {"node": "reason"}
    desk.put_away("node")
    assert desk.blamed == {}


def test_taking_waits_while_nothing_lives_and_never_while_something_does():
    desk = Desk()
    threading.Timer(0.1, desk.offer, (attempt(0),)).start()
    assert desk.take("a", 5) == attempt(0)
    started = time.monotonic()
    assert desk.take("b", 5) is None
    assert time.monotonic() - started < 1


def test_a_withdrawn_study_is_over_and_the_others_go_on():
    desk = Desk()
    for one in (attempt(0, "ends"), attempt(0, "stays"), attempt(1, "ends"), attempt(1, "stays")):
        desk.offer(one)
    desk.take("a", 0)
    desk.take("b", 0)
    desk.withdraw("ends")
    assert desk.hear("a", word(Outcome.VALID)), "whatever it says now comes too late"
    assert not desk.hear("b", word())
    assert [(one.study_id, result.outcome) for one, result in desk.ended()] == [("ends", Outcome.CANCELLED)] * 2
    assert desk.take("c", 0) == attempt(1, "stays")


def test_halting_ends_everything():
    desk = Desk()
    desk.offer(attempt(0))
    desk.offer(attempt(1))
    desk.take("a", 0)
    desk.halt()
    assert {(one.ordinal, result.outcome) for one, result in desk.ended()} == {
        (0, Outcome.CANCELLED),
        (1, Outcome.CANCELLED),
    }
    desk.offer(attempt(2))
    assert desk.take("b", 0) is None
    assert desk.waiting == 0
    assert [(one.ordinal, result.outcome) for one, result in desk.ended()] == [(2, Outcome.CANCELLED)], "not forgotten"


def test_a_trial_that_is_ended_while_its_result_is_read_ended_once(monkeypatch):
    """A signal's handler may run at any moment, on the very thread that hears the result."""
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    read = TrialResult.model_validate

    def interrupted(*arguments):
        desk.halt()
        return read(*arguments)

    monkeypatch.setattr(TrialResult, "model_validate", interrupted)
    assert desk.hear("a", word(Outcome.VALID))
    assert [result.outcome for _, result in desk.ended()] == [Outcome.CANCELLED]


class Interrupts(Attempt):
    """Ends everything on its desk when it is looked up."""

    def __hash__(self) -> int:
        if self.hyperparameters.get("desk"):
            self.hyperparameters.pop("desk").halt()
        return 1


def test_trials_that_are_ended_while_starting_ones_are_counted():
    desk = Desk()
    desk.offer(Interrupts("study", 0, 1, {"desk": desk}))
    desk.offer(attempt(1))
    desk.take("a", 0)
    desk.take("b", 0)
    assert not desk.place_is_coming(math.inf)
    assert desk.halted and desk.holds("a") is desk.holds("b") is None


@pytest.fixture
def clock(monkeypatch):
    """The desk's: seconds, in a list of one."""
    seconds = [1000.0]
    monkeypatch.setattr(workers.desk, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    return seconds


def test_a_place_is_coming_while_a_process_starts(clock):
    desk = Desk()
    assert not desk.place_is_coming(math.inf)
    desk.offer(attempt(0))
    assert not desk.place_is_coming(math.inf), "nobody has taken it yet"
    desk.take("a", 0)
    assert desk.place_is_coming(math.inf)
    clock[0] += START
    assert desk.place_is_coming(math.inf)
    desk.hear("a", word())
    assert not desk.place_is_coming(math.inf), "it has started"


def test_a_place_that_did_not_come_is_not_expected_again_soon(clock):
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    clock[0] += START + 0.1
    assert not desk.place_is_coming(math.inf)
    desk.hear("a", word())
    desk.offer(attempt(1))
    desk.take("b", 0)
    assert not desk.place_is_coming(math.inf), "another one, just taken: there was no place lately"
    clock[0] += 10 * START - 0.1
    desk.hear("b", word())
    desk.offer(attempt(2))
    desk.take("c", 0)
    assert not desk.place_is_coming(math.inf)
    clock[0] += 0.1
    assert desk.place_is_coming(math.inf)


@pytest.fixture
def patient(monkeypatch):
    """A handover that takes longer than any test, so that what ends it is not the clock."""
    monkeypatch.setattr(workers.desk, "HANDOVER", 60.0)


def test_whoever_hands_in_a_result_waits_for_the_next_attempt(patient):
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    threading.Timer(0.05, desk.offer, (attempt(1),)).start()
    started = time.monotonic()
    desk.hear("a", word(Outcome.VALID))
    assert desk.take("b", 0) == attempt(1)
    assert time.monotonic() - started < 30


def test_nobody_waits_once_the_ledger_has_settled(patient):
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)

    def settle():
        desk.ended()
        desk.settled()

    threading.Timer(0.05, settle).start()
    started = time.monotonic()
    desk.hear("a", word(Outcome.VALID))
    assert 0.05 <= time.monotonic() - started < 30


def test_a_ledger_that_takes_its_time_is_not_waited_for():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    started = time.monotonic()
    desk.hear("a", word(Outcome.VALID))
    assert HANDOVER <= time.monotonic() - started < 20 * HANDOVER


def speakers(desk: Desk):
    """What Tune is given, over one desk."""
    from mudman.specs import ResourcesSpec
    from workers.overseer import Overseer
    from workers.places import Places
    from workers.searcher import DeskSearcher, DeskStopper

    places = Places(desk, ResourcesSpec())
    overseer = Overseer(desk, places, {"study": ResourcesSpec()})
    return DeskSearcher(desk, {}, places), DeskStopper(desk, overseer, places), overseer


def test_what_tune_is_given_leaves_nothing_in_pickles_and_copies():
    for speaker in speakers(Desk()):
        assert speaker.__getstate__() == {}
        assert b"workers" in (pickled := pickle.dumps(speaker)) and len(pickled) < 100
        assert copy.deepcopy(speaker) is speaker


def test_finished_is_said_only_when_nothing_more_can_come():
    """Tune never asks again after FINISHED."""
    from ray.tune.search import Searcher

    desk = Desk()
    searcher, stopper, _ = speakers(desk)
    desk.offer(attempt(0))
    desk.take("other", 0)  # a trial lives: there is no waiting
    assert searcher.suggest("a") is None
    assert not stopper.stop_all()
    desk.halt()
    assert searcher.suggest("a") == Searcher.FINISHED
    assert stopper.stop_all()


def test_a_withdrawn_trial_ends_only_when_it_obeys():
    """Until then its process is not free: another trial begun there would die with it."""
    desk = Desk()
    _, stopper, _ = speakers(desk)
    desk.offer(attempt(0))
    desk.take("a", 0)
    assert not stopper("a", {"word": word().model_dump_json()})
    desk.withdraw("study")
    assert not stopper("a", {"word": word().model_dump_json()})
    assert stopper("a", {"word": word(Outcome.CANCELLED).model_dump_json()})
    assert [result.outcome for _, result in desk.ended()] == [Outcome.CANCELLED]
