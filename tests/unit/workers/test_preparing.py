"""Preparing a group: one study whose preparation kills the process ends no other."""

import pytest
from ray.exceptions import RayError, WorkerCrashedError

from workers.preparing import _answers


class Place:
    """Where studies are prepared, all that are asked for in one process."""

    def __init__(self, *, deadly: set[str] = frozenset(), cancelled: set[str] = frozenset()):
        self.deadly, self.cancelled, self.asked = deadly, cancelled, []

    def __call__(self, studies: list[str]) -> list[dict]:
        self.asked.append(studies)
        if self.deadly.intersection(studies):
            raise WorkerCrashedError
        return [] if self.cancelled.issuperset(studies) else [{"preparation": study} for study in studies]


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
