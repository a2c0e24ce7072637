"""When a node is to blame, and when it is not."""

from hypothesis import given
from hypothesis import strategies as st

from mudman.results import Outcome
from workers.breaker import STREAK, Breaker

BAD = (Outcome.ERROR, Outcome.LOST, Outcome.OUT_OF_MEMORY)


def failing(*nodes: str, times: int = STREAK, study: str = "study", worked_on: str = "b") -> Breaker:
    """Each of the nodes, after the study has counted once on those of ``worked_on``."""
    breaker = Breaker()
    for node in worked_on:
        breaker.told(node, study, (node, "good"), Outcome.VALID)
    for number in range(times):
        for node in nodes:
            breaker.told(node, study, (node, number), Outcome.ERROR, "CudaError")
    return breaker


def test_five_in_a_row_are_one_too_many_where_another_node_works():
    assert failing("a", times=STREAK - 1).blame({"a", "b"}) == {}
    breaker = failing("a")
    assert breaker.blame({"a", "b"}) == {"a": "5 trials in a row ended there without counting: 5 error (CudaError)"}
    assert breaker.blame({"a", "b"}) == {}, "told once; a quarantine that is over is a new chance"


def test_the_only_node_is_never_blamed():
    assert failing("a").blame({"a"}) == failing("a").blame(set()) == {}


def test_where_all_nodes_fail_it_is_the_study():
    breaker = failing("a", "b")
    assert breaker.blame({"a", "b"}) == {}
    breaker.told("b", "study", "good", Outcome.VALID)
    assert list(breaker.blame({"a", "b"})) == ["a"]


def test_a_study_that_works_nowhere_blames_no_node():
    """Every trial of one owner's study fails: no node may be taken from the others for that."""
    breaker, nodes = Breaker(), "abcd"
    for number in range(20):
        for node in nodes:
            breaker.told(node, "broken", (node, number), Outcome.ERROR)
            assert breaker.blame(set(nodes)) == {}
    breaker.told("b", "another", "good", Outcome.VALID)
    assert breaker.blame(set(nodes)) == {}, "that another study works there says nothing of this one"


def test_a_node_without_history_is_none_that_works():
    assert failing("a", worked_on="").blame({"a", "b"}) == {}
    assert failing("a", worked_on="a").blame({"a", "b"}) == {}


def test_what_failed_before_the_study_counted_elsewhere_is_remembered():
    breaker = failing("a", worked_on="")
    breaker.told("b", "study", "good", Outcome.VALID)
    assert list(breaker.blame({"a", "b"})) == ["a"]


def test_a_study_keeps_away_at_once_from_where_it_fails_until_it_fails_everywhere():
    breaker = failing("a", worked_on="")
    assert breaker.shunned("study", {"a", "b"}) == {"a"}
    assert breaker.shunned("study", {"a"}) == breaker.shunned("study", set()) == frozenset()
    assert breaker.shunned("another", {"a", "b"}) == frozenset()
    breaker.told("b", "another", "theirs", Outcome.ERROR)
    assert breaker.shunned("study", {"a", "b"}) == {"a"}
    breaker.told("b", "study", "ours", Outcome.ERROR)
    assert breaker.shunned("study", {"a", "b"}) == frozenset()


def test_one_trial_that_is_told_again_and_again_is_one():
    breaker = failing(times=0)
    for _ in range(STREAK):
        breaker.told("a", "study", "the same attempt", Outcome.LOST)
    assert breaker.blame({"a", "b"}) == {}


ENDS = st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(Outcome), st.integers(1, STREAK))
"""Node, study, outcome, and how often in a row."""


@given(st.lists(ENDS, max_size=12))
def test_blamed_are_exactly_the_nodes_where_studies_fail_that_work_elsewhere(repeated):
    """Against the definition, from the whole history: a streak are the ends on a node since one counted there,
    cancelled ones left out. Five of it must be of studies that have counted on a node without a streak."""
    breaker, ends = Breaker(), [end for *end, times in repeated for _ in range(times)]
    for number, (node, study, outcome) in enumerate(ends):
        breaker.told(node, study, number, outcome)

    def streak(node: str) -> list[str]:
        """The studies of its attempts."""
        found = []
        for _, study, outcome in reversed([end for end in ends if end[0] == node and end[2] is not Outcome.CANCELLED]):
            if outcome not in BAD:
                break
            found.append(study)
        return found

    def works_beside(node: str, study: str) -> bool:
        counted = {n for n, s, outcome in ends if s == study and outcome.counts}
        return any(not streak(other) for other in counted - {node})

    expected = {n for n in "abc" if sum(works_beside(n, study) for study in streak(n)) >= STREAK}
    assert set(breaker.blame({"a", "b", "c"})) == expected
