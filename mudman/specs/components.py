"""The components that MUDMAN is put together from (arXiv 2506.12484, sections 3-4 and appendix E)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mudman.faults import FieldFault, between_fields
from mudman.specs.base import SHORTHAND, Count, Interval, Model, Number, Rate, Share, within

# ------------------------------------------------------------------------------------------------------ adversary


class AdversarySpec(Model):
    """The copy that is trained on the forget set to show where the capability lives."""

    type: Literal["none", "fork", "lora"] = "fork"
    """``fork``: a copy of the intervened weights, renewed every ``fork_every`` loops; ``lora``: low-rank adapters on
    the target modules, likewise; ``none``: the model itself."""
    gradient: Literal["hybrid", "reuse", "fresh"] = "hybrid"
    """Where the unlearning gradient is taken. ``hybrid``: one graph, adversary stepped between two backwards (the
    published code); ``reuse``: both at the adversary before its step; ``fresh``: new forward after the step
    (Algorithm 1 as printed)."""
    decay: Share = 1.0
    """After its step the adversary becomes decay · adversary + (1 − decay) · model."""
    update: Rate = 0.0
    """Share of the unlearning update that the adversary receives too."""
    amount: Interval = 1
    """How many adversaries take turns; every ``fork_every / amount`` loops the next one is renewed."""
    rank: Interval = 8
    """Rank of the adapters, where ``type`` is ``lora``."""


# ----------------------------------------------------------------------------------------------------------- mask


class NoMask(Model):
    """Every entry of the unlearning gradient is applied."""

    type: Literal["none"]


class SignMask(Model):
    """Disruption Masking: an update only where its sign is that of the accumulated retain gradient (section 4)."""

    type: Literal["sign"]


class PercentileMask(Model):
    """Weights with much to forget and little to disrupt (appendix E: disruption percentiles).

    Kept is what is in the top ``forget_quantile`` of |unlearning gradient| and in the lowest ``retain_quantile`` of
    disruption, −acc · sign(unlearning gradient).
    """

    type: Literal["percentile"]
    forget_quantile: Share = 0.5
    """Share of weights kept for the size of their unlearning gradient."""
    retain_quantile: Share = 0.25
    """Share of weights kept for the smallness of their disruption."""
    scope: Literal["global", "tensor", "layer"] = "global"
    """Over what the thresholds are taken: all intervened weights, each tensor, each transformer layer."""
    warm_up: int = Field(20, ge=0, le=100_000)
    """Loops at the start in which nothing is unlearned: the accumulator fills."""


class AGemMask(Model):
    """A-GEM: the part of the unlearning gradient that conflicts with the retain gradient is projected out
    (arXiv 1812.00420; the paper's comparison to masking)."""

    type: Literal["agem"]


class AbsoluteMask(Model):
    """Absolute-value aggregation (appendix E): a score, accumulated |retain gradient|^power over
    |unlearning gradient|^forget_power, cut at a quantile."""

    type: Literal["absolute"]
    power: Rate = 1.2
    """p of the retain accumulator."""
    forget_power: Rate = 1.0
    """a of the denominator."""
    quantile: Share = 0.1
    """Share of weights kept: those with the lowest score."""


class CompromiseMask(Model):
    """The scaled compromise: retain contributions of single tokens that the update would harm, and those that it would
    help, are averaged apart, activation^p ⊗ gradient^p, and the helpful part counts ``factor`` times (appendix E)."""

    type: Literal["compromise"]
    power: Annotated[Number, within(0.1, 10)] = 1.0
    """p; 0.4 to 1.2 were tried."""
    factor: Annotated[Number, within(-10, 10)] = 1.0
    """Weight of the helpful part; −0.2 to 1.2 were tried. 1 with power 1 is Disruption Masking."""
    quantile: Share | None = None
    """Share of weights kept: those with the lowest harm less ``factor`` times help. None: all where that is below 0,
    which a factor of 0 or less leaves to none."""


Mask = Annotated[
    Annotated[
        NoMask | SignMask | PercentileMask | AGemMask | AbsoluteMask | CompromiseMask, Field(discriminator="type")
    ],
    SHORTHAND,
]

# ------------------------------------------------------------------------------------------------ retain machinery


class RepresentationLoss(Model):
    """Retain loss on hidden states: distance to those of the original model."""

    coefficient: Rate = 1.0
    """Weight of this loss beside the cross-entropy of the retain batch."""
    squared: bool = False
    """Square the norm of each token's difference before the mean."""


class ElasticPenalty(Model):
    """Online-EWC: a pull back to the original weights, each as strong as its squared retain gradients say it matters
    (arXiv 1805.06370; arXiv 2506.12484, appendix E)."""

    strength: Rate = 1.0
    """λ: the retain gradient gains λ · F · (w − original w)."""
    decay: Share = 0.9
    """γ of the importance F ← γ · F + (1 − γ) · g²."""


# --------------------------------------------------------------------------------- tweaks of the unlearning backward


class FadingBackprop(Model):
    """Gradients that leave MLP or attention towards their input fade by a factor; the residual path is untouched."""

    type: Literal["fading"]
    factor: Share = 0.7
    mlp: bool = True
    attention: bool = False

    @model_validator(mode="after")
    def _fades(self) -> "FadingBackprop":
        if not (self.mlp or self.attention):
            raise between_fields([FieldFault("", "fades nothing", "set mlp or attention to true")])
        return self


class MisalignSecondLayers(Model):
    """The second MLP layer's weight gradient is the outer product of its output gradient with its input gradient
    over the norm of the output gradient, instead of with its input."""

    type: Literal["misalign"]
    positive_only: bool = False
    """Keep entries only where the input gradient is positive and the input not negative."""


class TweakFirstLayers(Model):
    """The first MLP layer's weight gradient is that of ½‖g‖², g a gradient upstream of it: the update dampens what
    reaches earlier layers (three places)."""

    type: Literal["tweak_first"]
    place: Literal["module", "before_norm", "residual"] = "module"
    """Where the gradient is to be dampened: just upstream of the module, before the layer norm, or on the residual
    stream after the MLP's own gradient was added."""


class ShrinkActivations(Model):
    """Only shrink activations: output gradients that would grow the absolute value of a target module's output are
    multiplied by ``growing``."""

    type: Literal["shrink_activations"]
    growing: Share = 0.0


Backward = Annotated[
    Annotated[
        FadingBackprop | MisalignSecondLayers | TweakFirstLayers | ShrinkActivations, Field(discriminator="type")
    ],
    SHORTHAND,
]


# ----------------------------------------------------------------------------------------------------------- LoRA


class LoraSpec(Model):
    """Low-rank adapters (arXiv 2106.09685): out += dropout(x) Aᵀ Bᵀ · alpha / rank; A uniform, B zero at the start."""

    rank: Count = 16
    alpha: Rate = 8.0
    dropout: float = Field(0.0, ge=0, lt=1)
