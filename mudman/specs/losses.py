"""Unlearning losses that a method may minimise on the forget set."""

import math
from typing import Annotated, Literal

from pydantic import Field

from mudman.specs.base import SHORTHAND, Model, Number, within

Scale = Annotated[Number, within(1e-3, math.inf)]


class NegCrossEntropy(Model):
    """−cross-entropy: descending it is gradient ascent (arXiv 2506.12484, section 3)."""

    type: Literal["neg_cross_entropy"]


class NegEntropy(Model):
    """Σ p log p at every position: towards uniform predictions (arXiv 2506.12484, section 3; TAR, arXiv 2408.00761)."""

    type: Literal["neg_entropy"]


class CorrectLogit(Model):
    """Selective logit loss: the correct token's logit above the mean logit (arXiv 2506.12484, appendix E)."""

    type: Literal["correct_logit"]
    clip: Number = 0.0
    """Lower bound, in logits: tokens already below it have no gradient."""


class StreamActivation(Model):
    """Squared size of the residual stream (arXiv 2506.12484, appendix E: stream deactivation)."""

    type: Literal["stream_activation"]


class BiasedEntropy(Model):
    """Negative entropy after a constant was added to the correct token's logit."""

    type: Literal["biased_entropy"]
    bias: Number = 0.0
    """Added to the correct logit."""


class FlippedProbability(Model):
    """−log(1 − p(correct)): no pull on tokens that are already improbable."""

    type: Literal["flipped_probability"]
    bias: Number = 0.0
    """Added to the correct logit."""
    only_correct: bool = False
    """Let the gradient reach the correct token's logit alone."""


class SoftCrossEntropy(Model):
    """−s · atan(cross-entropy / s) per token: bounded, so that single tokens cannot dominate."""

    type: Literal["soft_cross_entropy"]
    scale: Scale = 10.0
    """s, in nats."""


class SoftLogit(Model):
    """s · atan(x / s) with x the correct token's logit above the mean logit."""

    type: Literal["soft_logit"]
    scale: Scale = 10.0
    """s, in logits."""


Loss = Annotated[
    Annotated[
        NegCrossEntropy
        | NegEntropy
        | CorrectLogit
        | StreamActivation
        | BiasedEntropy
        | FlippedProbability
        | SoftCrossEntropy
        | SoftLogit,
        Field(discriminator="type"),
    ],
    SHORTHAND,
]
