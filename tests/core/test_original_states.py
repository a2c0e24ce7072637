"""Hidden states of the original model are kept: fewer passes, the same weights to the last bit."""

import pytest
import torch
from method_runs import unlearned
from small_models import MODULES, identical, small_model

from mudman.original import OriginalStates

RATES = {"unlearning_rate": 0.01, "retaining_rate": 0.05}
MUDMAN = RATES | {"retain_momentum": 0.9, "adversary_rate": 0.01, "fork_every": 2, "adversary": {"type": "fork"}}
METHODS = {
    "circuit_breakers": (RATES, 2),
    "mudman": (MUDMAN | {"representation_loss": {"coefficient": 1.0}}, 1),
    "tar": ({"unlearning_rate": 0.01, "inner_steps": 2, "every": 1, "adversary_rates": [0.01]}, 1),
}
LOOPS = 4


@pytest.mark.parametrize("name", METHODS)
def test_a_second_run_makes_no_pass_of_the_original(name):
    settings, looks = METHODS[name]
    config = {"type": name, "target_modules": MODULES["llama"], **settings}
    original, runs = OriginalStates(), []
    for kept in (None, original, original):
        runs.append(unlearned(small_model("llama"), config, LOOPS, original=kept))
    (bare, whole), (first, filling), (second, knowing) = runs
    assert identical(bare, first)
    assert identical(bare, second)
    assert filling.passes_made == whole.passes_made
    assert knowing.passes_made == whole.passes_made - LOOPS * looks
    assert knowing.passes_booked == whole.passes_booked


def states(value: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.full((1, 4, 8), float(value)) for _ in range(2))  # 256 bytes


def asked(kept: OriginalStates, token: int, value: float) -> float:
    """What is answered for a batch, where the model would make ``value`` of it."""
    return kept.of(torch.full((1, 4), token), lambda: states(value))[0][0, 0, 0].item()


def test_what_came_first_stays_until_it_is_cleared():
    kept = OriginalStates(limit=600)
    assert [asked(kept, token, value=1) for token in (5, 6, 7)] == [1, 1, 1]
    assert [asked(kept, token, value=2) for token in (5, 6, 7)] == [1, 1, 2], "the third has no room"
    assert kept.of(torch.full((4, 1), 5), lambda: states(3.0))[0][0, 0, 0] == 3, "another batch of the same tokens"
    kept.clear()
    assert [asked(kept, token, value=4) for token in (7, 5)] == [4, 4]
    assert [asked(kept, token, value=5) for token in (7, 5)] == [4, 4], "there is room again"


def test_what_dropout_makes_is_not_kept():
    kept, tokens = OriginalStates(), torch.ones(1, 4, dtype=torch.long)
    torch.manual_seed(0)
    drawn = [kept.of(tokens, lambda: (torch.rand(3),))[0] for _ in range(2)]
    assert not torch.equal(*drawn)
