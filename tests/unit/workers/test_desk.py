"""The desk between Tune's thread and the ledger's, and the searcher and stopper that speak for it."""

import copy
import pickle
import threading
import time

from mudman.results import Outcome, TrialResult
from workers.book import Attempt
from workers.desk import Desk
from workers.orders import Word


def attempt(ordinal: int, study: str = "study") -> Attempt:
    return Attempt(study, ordinal, 1, {"rate": 0.5})


def word(outcome: Outcome | None = None) -> Word:
    result = TrialResult(outcome=outcome).model_dump(mode="json") if outcome else None
    return Word(worker={"pid": 1}, progress={"passes": 1}, result=result)


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
    desk.vanish("a")
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(0), Outcome.VALID)]
    assert desk.ended() == []


def test_a_process_that_dies_loses_its_trial():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a", 0)
    desk.vanish("a")
    assert [result.outcome for _, result in desk.ended()] == [Outcome.LOST]


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


def test_searcher_and_stopper_leave_nothing_in_pickles_and_copies():
    from workers.searcher import DeskSearcher, DeskStopper

    desk = Desk()
    for speaker in (DeskSearcher(desk, {}), DeskStopper(desk)):
        assert speaker.__getstate__() == {}
        assert b"Desk" in (pickled := pickle.dumps(speaker)) and len(pickled) < 100
        assert copy.deepcopy(speaker) is speaker


def test_finished_is_said_only_when_nothing_more_can_come():
    """Tune never asks again after FINISHED."""
    from ray.tune.search import Searcher

    from workers.searcher import DeskSearcher, DeskStopper

    desk = Desk()
    searcher, stopper = DeskSearcher(desk, {}), DeskStopper(desk)
    desk.offer(attempt(0))
    desk.take("other", 0)  # a trial lives: there is no waiting
    assert searcher.suggest("a") is None
    assert not stopper.stop_all()
    desk.halt()
    assert searcher.suggest("a") == Searcher.FINISHED
    assert stopper.stop_all()
