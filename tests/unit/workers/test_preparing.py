"""Preparing a group: one study whose preparation kills the process ends no other."""

import time

import pytest
from ray.exceptions import RayError, WorkerCrashedError

from workers import problems
from workers.preparing import _answers, _listen


class Place:
    """Where studies are prepared, all that are asked for in one process."""

    def __init__(
        self, *, deadly: set[str] = frozenset(), cancelled: set[str] = frozenset(), slow: set[str] = frozenset()
    ):
        self.deadly, self.cancelled, self.slow, self.asked = deadly, cancelled, slow, []

    def __call__(self, studies: list[str]) -> list[dict]:
        self.asked.append(studies)
        if self.deadly.intersection(studies):
            raise WorkerCrashedError
        if self.cancelled.issuperset(studies):
            return []
        answers = [{"late": 9.0} if study in self.slow else {"preparation": study} for study in studies]
        late = [position for position, answer in enumerate(answers) if "late" in answer]
        return answers[: late[0] + 1] if late else answers


def test_a_group_is_one_question():
    place = Place()
    assert _answers(["a", "b"], place) == {"a": {"preparation": "a"}, "b": {"preparation": "b"}}
    assert place.asked == [["a", "b"]]


def test_a_deadly_one_is_found_by_asking_for_each_alone():
    place = Place(deadly={"b"}, cancelled={"c"})
    answers = _answers(["a", "b", "c", "d"], place)
    assert place.asked == [["a", "b", "c", "d"], ["a"], ["b"], ["c"], ["d"]]
    assert {study: answers[study] for study in "ad"} == {"a": {"preparation": "a"}, "d": {"preparation": "d"}}
    assert answers["b"]["fault"].type == "WorkerCrashedError"
    assert "c" not in answers


def test_a_single_one_is_left_to_the_next_runner():
    with pytest.raises(RayError):
        _answers(["a"], Place(deadly={"a"}))


def test_after_one_that_took_too_long_the_rest_are_asked_for_again():
    place = Place(slow={"b", "d"})
    answers = _answers(["a", "b", "c", "d"], place)
    assert place.asked == [["a", "b", "c", "d"], ["c", "d"]]
    assert answers == {"a": {"preparation": "a"}, "b": {"late": 9.0}, "c": {"preparation": "c"}, "d": {"late": 9.0}}


def words(*said: dict | None):
    """What is heard, one after the other; then nothing more."""
    left = list(said)

    def hear() -> dict | None:
        time.sleep(0.01)
        return left.pop(0) if left else None

    return hear


def test_a_study_that_takes_too_long_is_late_but_not_one_that_waits_for_its_place():
    ready = {"preparation": 1}
    assert _listen(words(*[None] * 12, {}, ready, ready), lambda: True, 2, 0.1) == [ready, ready]
    assert _listen(words({}, ready), lambda: True, 2, 0.1) == [ready, {"late": 0.1}]
    assert _listen(words({}), lambda: True, 1, 0.1) == [{"late": 0.1}]
    asked = iter([True, True, False])
    assert _listen(words({}, ready), lambda: next(asked), 2, 60) == [ready], "cancelled meanwhile"


def test_its_first_word_says_that_it_has_a_place():
    heard = []
    _listen(words(None, {"place": "here"}, {"preparation": 1}), lambda: True, 1, 60, heard.append)
    assert heard == [{"place": "here"}]


def test_what_took_too_long_says_which_setting_limits_it():
    assert "MUDMAN_PREPARATION_SECONDS" in problems.preparation_late(3600.0)["detail"]
