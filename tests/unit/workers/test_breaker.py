"""When a node is to blame, and when it is not."""

from hypothesis import given
from hypothesis import strategies as st

from mudman.results import Outcome
from workers.breaker import STREAK, Breaker

BAD = (Outcome.ERROR, Outcome.LOST, Outcome.OUT_OF_MEMORY)


def failing(*nodes: str, times: int = STREAK, outcome: Outcome = Outcome.ERROR) -> Breaker:
    breaker = Breaker()
    for number in range(times):
        for node in nodes:
            breaker.told(node, (node, number), outcome, "CudaError")
    return breaker


def test_five_in_a_row_are_one_too_many_where_another_node_is_there():
    assert failing("a", times=STREAK - 1).blame({"a", "b"}) == {}
    breaker = failing("a")
    assert breaker.blame({"a", "b"}) == {"a": "5 trials in a row ended there without counting: 5 error (CudaError)"}
    assert breaker.blame({"a", "b"}) == {}, "told once; a quarantine that is over is a new chance"


def test_the_only_node_is_never_blamed():
    assert failing("a").blame({"a"}) == failing("a").blame(set()) == {}


def test_where_all_nodes_fail_it_is_the_study():
    breaker = failing("a", "b")
    assert breaker.blame({"a", "b"}) == {}
    breaker.told("b", "good", Outcome.VALID)
    assert list(breaker.blame({"a", "b"})) == ["a"]


def test_one_trial_that_is_told_again_and_again_is_one():
    breaker = Breaker()
    for _ in range(STREAK):
        breaker.told("a", "the same attempt", Outcome.LOST)
    assert breaker.blame({"a", "b"}) == {}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(Outcome))))
def test_blamed_are_exactly_the_nodes_with_a_streak_beside_one_that_works(ends):
    """Against the definition: the last outcomes of a node, cancelled ones left out."""
    breaker = Breaker()
    for number, (node, outcome) in enumerate(ends):
        breaker.told(node, number, outcome)

    def streak(node: str) -> int:
        length = 0
        for outcome in reversed([o for n, o in ends if n == node and o is not Outcome.CANCELLED]):
            if outcome not in BAD:
                break
            length += 1
        return length

    expected = {n for n, other in ("ab", "ba") if streak(n) >= STREAK and streak(other) == 0}
    assert set(breaker.blame({"a", "b"})) == expected
