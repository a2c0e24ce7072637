"""What is asked of a card, without one: flags are set while a trial computes, and are the caller's again afterwards."""

import pytest
import torch

from mudman.faults import SpecError
from mudman.precision import computing
from mudman.specs import ModelSpec

CARD = torch.device("cuda")


def flags() -> tuple[bool, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
    )


@pytest.fixture
def capable(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("compute", [None, "bfloat16", "tf32"])
def test_a_card_is_asked_for_the_same_values_every_time(capable, compute):
    before = flags()
    with pytest.raises(ZeroDivisionError), computing(ModelSpec(id="m", compute=compute), CARD):
        assert flags() == (True, False, True, compute == "tf32"), "one kernel has no deterministic form: it warns"
        raise ZeroDivisionError
    assert flags() == before


@pytest.mark.parametrize("compute", ["bfloat16", "tf32"])
def test_a_card_that_would_only_imitate_a_type_is_refused(compute, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    with pytest.raises(SpecError, match=f"no products in {compute}"):
        computing(ModelSpec(id="m", compute=compute), CARD).__enter__()
