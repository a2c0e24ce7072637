"""The desk between Tune's thread and the ledger's, and the searcher and stopper that speak for it."""

import copy
import pickle
import threading
import time

from mudman.results import Fault, Outcome, TrialResult
from workers.book import Attempt
from workers.desk import HANDOVER, Desk
from workers.orders import Word


def attempt(ordinal: int, study: str = "study") -> Attempt:
    return Attempt(study, ordinal, 1, {"rate": 0.5})


def word(outcome: Outcome | None = None) -> Word:
    result = TrialResult(outcome=outcome) if outcome else None
    return Word(worker={"node_id": "node"}, progress={"phase": "unlearn", "passes": 1}, result=result)


def test_an_attempt_goes_from_offer_to_result():
    desk = Desk()
    desk.offer(attempt(0))
    assert desk.take("a") == attempt(0)
    desk.hear("a", word())
    assert desk.news
    assert desk.words() == {attempt(0): word()}
    assert desk.words() == {}
    desk.hear("a", word(Outcome.VALID))
    assert desk.holds("a") is None
    desk.hear("a", word(Outcome.VALID))
    assert desk.lose("a", TrialResult(outcome=Outcome.LOST)) is None
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(0), Outcome.VALID)]
    assert desk.ended() == []


def test_a_trial_is_lost_once_with_its_cause():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a")
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
    assert desk.allows(1) and not desk.allows(2)
    assert desk.take("a") == attempt(0)
    assert desk.take("b") is None
    desk.hear("a", word(Outcome.VALID))
    assert desk.take("b") == attempt(1)


def test_what_the_share_has_no_place_for_any_more_is_given_back():
    desk = Desk()
    for ordinal in range(3):
        desk.offer(attempt(ordinal))
    assert desk.take("a") == attempt(0)
    desk.limit = 2
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(2), Outcome.CANCELLED)]
    desk.limit = 0
    assert [one for one, _ in desk.ended()] == [attempt(1)]
    assert desk.holds("a") == attempt(0), "what runs is left alone"
    desk.hear("a", word(Outcome.VALID))
    assert desk.shut and not desk.wait_for_place(0)
    desk.offer(attempt(3))
    assert desk.take("b") is None
    desk.limit = None
    assert desk.wait_for_place(0)
    assert desk.take("b") == attempt(3)


def test_a_place_is_given_what_suits_it():
    desk = Desk()
    desk.offer(attempt(0, "keeps away"))
    desk.offer(attempt(0, "stays"))
    assert desk.take("a", lambda attempt: attempt.study_id == "stays", 0) == attempt(0, "stays")
    assert desk.take("b", lambda attempt: attempt.study_id == "stays", 0) is None
    assert desk.first_waiting(0) == attempt(0, "keeps away")


def test_what_lived_when_tune_ended_is_begun_again():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a")
    desk.clear()
    assert [(one, result.outcome) for one, result in desk.ended()] == [(attempt(0), Outcome.CANCELLED)]


def test_a_blamed_node_is_kept_until_it_is_seen_to():
    desk = Desk()
    desk.blame("node", "reason")
    assert desk.blamed == desk.blamed == {"node": "reason"}
    desk.put_away("node")
    assert desk.blamed == {}


def test_what_waits_for_a_place_is_waited_for_a_little():
    desk = Desk()
    threading.Timer(0.1, desk.offer, (attempt(0),)).start()
    assert desk.first_waiting(5) == attempt(0)
    desk.take("a")
    started = time.monotonic()
    assert desk.first_waiting(0.2) is None
    assert time.monotonic() - started >= 0.2, "nobody asks at full speed"
    threading.Timer(0.1, desk.halt).start()
    started = time.monotonic()
    assert desk.first_waiting(20) is None
    assert time.monotonic() - started < 10, "all is over"


def test_a_withdrawn_study_is_over_and_the_others_go_on():
    desk = Desk()
    for one in (attempt(0, "ends"), attempt(0, "stays"), attempt(1, "ends"), attempt(1, "stays")):
        desk.offer(one)
    desk.take("a")
    desk.take("b")
    desk.withdraw("ends")
    desk.hear("a", word(Outcome.VALID))  # too late
    desk.hear("b", word())
    assert desk.words() == {attempt(0, "stays"): word()}
    assert [(one.study_id, result.outcome) for one, result in desk.ended()] == [("ends", Outcome.CANCELLED)] * 2
    assert desk.take("c") == attempt(1, "stays")


def test_halting_ends_everything():
    desk = Desk()
    desk.offer(attempt(0))
    desk.offer(attempt(1))
    desk.take("a")
    desk.halt()
    assert {(one.ordinal, result.outcome) for one, result in desk.ended()} == {
        (0, Outcome.CANCELLED),
        (1, Outcome.CANCELLED),
    }
    desk.offer(attempt(2))
    assert desk.take("b") is None
    assert desk.waiting == 0
    assert [(one.ordinal, result.outcome) for one, result in desk.ended()] == [(2, Outcome.CANCELLED)], "not forgotten"


def test_whoever_hands_in_a_result_waits_for_the_next_attempt():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a")
    desk.hear("a", word(Outcome.VALID))
    threading.Timer(0.05, desk.offer, (attempt(1),)).start()
    started = time.monotonic()
    assert desk.take("a", patience=60) == attempt(1)
    assert time.monotonic() - started < 30


def test_nobody_waits_once_the_ledger_has_settled():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a")
    desk.hear("a", word(Outcome.VALID))

    def settle():
        desk.ended()
        desk.settled()

    started = time.monotonic()
    threading.Timer(0.05, settle).start()
    assert desk.take("a", patience=60) is None
    assert 0.05 <= time.monotonic() - started < 30


def test_a_ledger_that_takes_its_time_is_not_waited_for():
    desk = Desk()
    desk.offer(attempt(0))
    desk.take("a")
    desk.hear("a", word(Outcome.VALID))
    started = time.monotonic()
    assert desk.take("a", patience=HANDOVER) is None
    assert HANDOVER <= time.monotonic() - started < 20 * HANDOVER


def speakers(desk: Desk):
    """What Tune is given, over one desk."""
    from mudman.specs import ResourcesSpec
    from workers.overseer import Overseer
    from workers.places import Places
    from workers.searcher import PlaceSearcher, PlaceStopper

    places = Places(desk, ResourcesSpec())
    overseer = Overseer(desk, places, {})
    return PlaceSearcher(desk, overseer, places), PlaceStopper(desk, overseer, places), overseer


def test_what_tune_is_given_leaves_nothing_in_pickles_and_copies():
    for speaker in speakers(Desk()):
        assert speaker.__getstate__() == {}
        assert b"workers" in (pickled := pickle.dumps(speaker)) and len(pickled) < 100
        assert copy.deepcopy(speaker) is speaker


def test_finished_is_said_only_when_nothing_more_can_come(monkeypatch):
    """Tune never asks again after FINISHED."""
    from ray.tune.search import Searcher

    monkeypatch.setattr("workers.searcher.PATIENCE", 0.01)
    desk = Desk()
    searcher, stopper, _ = speakers(desk)
    assert searcher.suggest("a") is None
    assert not stopper.stop_all()
    desk.halt()
    assert searcher.suggest("a") == Searcher.FINISHED
    assert stopper.stop_all()
