"""Which components do not combine: one table, read by validation (422) and by docs/methods.md.

Whatever is not listed here combines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import model_validator

from mudman.faults import FieldFault, between_fields

if TYPE_CHECKING:
    from mudman.specs.methods import MudmanSpec


@dataclass(frozen=True)
class Refusal:
    """Two settings of MUDMAN that cannot go together."""

    one: str
    other: str
    path: str
    """Field of ``other``."""
    reason: str
    remedy: str
    applies: Callable[["MudmanSpec"], bool]


REFUSALS = (
    Refusal(
        "adversary.type: lora",
        "adversary.update",
        "adversary.update",
        "an adapter stands on the model's own weights, so that it has every update already",
        "leave adversary.update at 0",
        lambda spec: spec.adversary.type == "lora" and spec.adversary.update != 0,
    ),
    Refusal(
        "backward",
        "adversary.gradient: reuse",
        "adversary.gradient",
        "the tweak is for the unlearning gradient alone, and reuse takes the adversary's from the same backward",
        "take adversary.gradient: hybrid or fresh",
        lambda spec: spec.backward is not None and spec.adversary.type != "none" and spec.adversary.gradient == "reuse",
    ),
    Refusal(
        "mask: agem",
        "normalization: per_parameter",
        "normalization",
        "A-GEM projects all weights as one vector, and scaling its tensors apart turns the projection",
        "take normalization: global_pre_mask or global_post_mask",
        lambda spec: spec.mask.type == "agem" and spec.normalization == "per_parameter",
    ),
    Refusal(
        "mask: agem",
        "growing_weights",
        "growing_weights",
        "A-GEM projects all weights as one vector, and damping single entries turns the projection",
        "leave growing_weights at 1",
        lambda spec: spec.mask.type == "agem" and spec.growing_weights != 1,
    ),
)


def refuse_combinations():
    """A pydantic validator that refuses every pair of the table that the spec holds."""

    def check(spec: "MudmanSpec") -> "MudmanSpec":
        if found := [refusal for refusal in REFUSALS if refusal.applies(spec)]:
            raise between_fields(
                [FieldFault(r.path, f"{r.other} does not combine with {r.one}: {r.reason}", r.remedy) for r in found]
            )
        return spec

    return model_validator(mode="after")(check)
