"""Every unlearning method that a study may name. One class each; the algorithms are in mudman/methods."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mudman.faults import FieldFault, between_fields
from mudman.specs.base import Count, Interval, Method, Model, Name, Number, Rate, Share, within
from mudman.specs.compatibility import refuse_combinations
from mudman.specs.components import (
    AdversarySpec,
    Backward,
    ElasticPenalty,
    LoraSpec,
    Mask,
    NoMask,
    RepresentationLoss,
    SignMask,
)
from mudman.specs.losses import Loss, NegCrossEntropy, NegEntropy

Normalization = Literal["none", "per_parameter", "global_post_mask", "global_pre_mask"]
Targets = Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]  # a list is as good as a tuple


class Intervening(Method):
    """A method that changes the weights of some modules."""

    target_modules: Targets
    """Modules whose weight is changed, by exact suffix of the dotted name (``gate_proj``, ``mlp.up_proj``), or a
    group that every architecture has: ``group:first_mlp``, ``group:gate``, ``up``, ``down``, ``q``, ``k``, ``v``,
    ``o``, ``qkv``, ``all_linear``."""


class MudmanSpec(Intervening):
    """MUDMAN and its ablations (arXiv 2506.12484, Algorithm 1 and Listing 1). Every number takes a value or a range.

    The model runs in training mode, as published: where its dropout is active, it trains with it.
    """

    type: Literal["mudman"]
    loss: Loss = NegCrossEntropy(type="neg_cross_entropy")
    """Unlearning loss, to be minimised on the forget set."""
    mask: Mask = SignMask(type="sign")
    """Which part of the unlearning gradient is applied; ``sign`` is Disruption Masking."""
    normalization: Normalization = "global_pre_mask"
    """What the unlearning gradient is divided by (Table 1)."""
    rate_unit: Literal["rms", "l2"] = "rms"
    """``rms``: the rate is a root mean square (published configs); ``l2``: a norm. It is that of the raw gradient's
    update, before masking, under ``global_pre_mask``; of the update as applied under ``global_post_mask``; of each
    tensor of it under ``per_parameter``. The published Table 1 has ``per_parameter`` in ``l2``, its other variants in
    ``rms``."""
    adversary: AdversarySpec = AdversarySpec()
    forget_momentum: Share = 0.0
    """Exponential average over unlearning gradients."""
    consensus_power: Annotated[Number, within(0.1, 10)] = 1.0
    """p of weight consensus: averaged is sign(g) · |g|^(1/p), applied its p-th power; 1 is plain forget momentum."""
    growing_weights: Rate = 1.0
    """Factor on updates that grow the absolute weight; 0 lets weights only shrink."""
    representation_loss: RepresentationLoss | None = None
    ewc: ElasticPenalty | None = None
    """Online-EWC beside the retain loss."""
    backward: Backward | None = None
    """A tweak of the unlearning backward pass."""
    revert_below: Rate = 0.0
    """Selective revert: at the end, weights whose total change is smaller are set back."""
    unlearning_rate: Rate
    """Size of one unlearning update, in ``rate_unit``."""
    retaining_rate: Rate = 1e-3
    """Learning rate of the retain step."""
    retain_momentum: Share = 0.9
    """Decay m of the retain accumulator: acc ← m · acc + (1 − m) · gradient."""
    adversary_rate: Rate = 1e-3
    """Learning rate of the adversary on the forget set."""
    fork_every: Interval = 32
    """Loops between two forks of the adversary; loop 0 always forks. Fractions are cut off."""

    _combinations = refuse_combinations()

    def passes_per_loop(self) -> int:
        """As the published procedure books them."""
        return 4 + (self.adversary.type != "none") + (self.representation_loss is not None)

    def original_batches_per_loop(self) -> int:
        return int(self.representation_loss is not None)

    def start_up_loops(self) -> int:
        return self.mask.warm_up if self.mask.type == "percentile" else 0

    def idle_fields(self) -> set[str]:
        idle = set()
        if self.adversary.type == "none":
            idle |= {f"adversary.{name}" for name in ("gradient", "decay", "update", "amount", "rank")}
            idle |= {"adversary_rate", "fork_every"}
        if self.adversary.type == "fork":
            idle |= {"adversary.rank"}
        if self.normalization == "none":
            idle |= {"rate_unit"}
        if self.forget_momentum == 0:
            idle |= {"consensus_power"}
        return idle


class GradientAscentSpec(Intervening):
    """Plain descent on the unlearning loss, nothing else: the classic baseline."""

    retains: ClassVar[bool] = False
    type: Literal["gradient_ascent"]
    loss: Loss = NegCrossEntropy(type="neg_cross_entropy")
    unlearning_rate: Rate
    """Learning rate."""

    def passes_per_loop(self) -> int:
        return 2


class GradientDifferenceSpec(Intervening):
    """Gradient difference (arXiv 2203.12817): one step down the unlearning loss plus the weighted retain loss."""

    type: Literal["gradient_difference"]
    loss: Loss = NegCrossEntropy(type="neg_cross_entropy")
    unlearning_rate: Rate
    """Learning rate of the common step."""
    retain_weight: Rate = 1.0
    """Weight of the retain cross-entropy beside the unlearning loss."""

    def passes_per_loop(self) -> int:
        return 4


class CircuitBreakersSpec(Intervening):
    """Circuit breakers (arXiv 2406.04313), as compared in arXiv 2506.12484: forget representations turn away from the
    original's at the middle layer, retain representations stay."""

    type: Literal["circuit_breakers"]
    lora: LoraSpec | None = None
    """Train adapters on the target modules instead of their weights. They stay in the model: the attack trains them
    too, as published."""
    layer: int | None = Field(None, ge=0, le=1000)
    """Hidden state that turns away; default: half the number of layers."""
    unlearning_rate: Rate
    """Root mean square of one forget update."""
    retaining_rate: Rate = 1e-3

    def passes_per_loop(self) -> int:
        """As published; a second forward of the original makes it six."""
        return 5

    def original_batches_per_loop(self) -> int:
        return 2


class NestedSpec(Intervening):
    """Meta-learning in nested loops: every loop trains fresh full-copy adversaries for some steps and carries their
    unlearning gradients back to the model (the paper's early form, appendix E; arXiv 2211.14946)."""

    type: Literal["nested"]
    loss: Loss = NegCrossEntropy(type="neg_cross_entropy")
    adversaries: Count = 1
    """Full copies trained one after the other in each loop, on different forget batches."""
    inner_steps: Count = 4
    """Steps of each adversary."""
    order: Literal["first", "second"] = "first"
    """``second``: differentiate through the inner steps (memory grows with ``inner_steps``: small models only)."""
    mask: Annotated[NoMask | SignMask, Field(discriminator="type")] = SignMask(type="sign")
    normalization: Normalization = "global_pre_mask"
    unlearning_rate: Rate
    retaining_rate: Rate = 1e-3
    retain_momentum: Share = 0.9
    adversary_rate: Rate = 1e-3

    def passes_per_loop(self) -> int:
        """Retain: 2; each adversary: 2 a step, twice that at second order, and 2 for the unlearning gradient."""
        steps = 2 * self.inner_steps * (2 if self.order == "second" else 1)
        return 2 + self.adversaries * (steps + 2)

    def forget_batches_per_loop(self) -> int:
        return self.adversaries * (self.inner_steps + 1)


class RandomMappingStart(Model):
    """Random-mapped start: forget residuals are mapped to a random vector per token before the nested loop begins."""

    loops: Count = 4
    """Loops of the budget that go into the mapping."""
    rate: Rate = 1e-3


class TarSpec(Intervening):
    """TAR with its own nested loop (arXiv 2408.00761): tamper-resistance gradients gathered along an inner attack,
    applied with the retain gradient by AdamW. For TAR as adapted to MUDMAN's loop see the presets ``tar-adapted``.

    Unlike TAR's published code: AdamW is plain, not schedule-free; the simulated attack trains on the forget set alone,
    not on a mix of three attacks (two sets of biology texts, and the retain set before the forget set); the
    representation loss is squared unless ``squared`` is false, and has no last hidden state."""

    type: Literal["tar"]
    loss: Loss = NegEntropy(type="neg_entropy")
    inner_steps: Count = 64
    """Steps of the simulated attack in each loop."""
    every: Count = 4
    """Inner steps between two tamper-resistance gradients."""
    attack_optimizer: Literal["adamw", "sgd"] = "adamw"
    """What the simulated attack trains with; the default rates are TAR's own, for AdamW."""
    adversary_rates: tuple[float, ...] = Field((2e-6, 2e-5, 4e-5), min_length=1, strict=False)
    """Learning rates of the attack, drawn anew in each loop."""
    weighting: float = Field(0.0625, ge=0)
    """λ: the gradient at inner step k counts in proportion to exp(λ · k)."""
    unlearning_rate: Rate = 2e-5
    """Learning rate of the outer AdamW."""
    tamper_scale: Rate = 4.0
    """Factor of the tamper-resistance gradient."""
    retain_scale: Rate = 1.0
    """Factor of the retain gradient, representation loss included."""
    squared: bool = True
    """Square the norms of the representation loss."""
    warm_up: int = Field(32, ge=0)
    """Outer steps over which the learning rate rises from 0."""
    random_mapping: RandomMappingStart | None = None

    def passes_per_loop(self) -> int:
        """Inner attack: 2 a step; each tamper-resistance gradient: 2; retain: 3 with the original's forward."""
        return 2 * self.inner_steps + 2 * -(-self.inner_steps // self.every) + 3

    def forget_batches_per_loop(self) -> int:
        return self.inner_steps + -(-self.inner_steps // self.every)

    def retain_batches_per_loop(self) -> int:
        """While mapping, as many as a loop has mapping steps."""
        return self.passes_per_loop() // 4 if self.random_mapping else 1

    def original_batches_per_loop(self) -> int:
        return 1

    def start_up_loops(self) -> int:
        return self.random_mapping.loops if self.random_mapping else 0


class RandomMappingSpec(Intervening):
    """Random mapping (TAR's start, arXiv 2408.00761): forget residuals turn to a random vector per token, by cosine;
    language modelling goes on on the retain set."""

    type: Literal["random_mapping"]
    unlearning_rate: Rate
    """Learning rate on the cosine loss."""
    retaining_rate: Rate = 1e-3

    def passes_per_loop(self) -> int:
        return 4


class CircuitSource(Model):
    """One circuit: gradients of a loss on the original model."""

    loss: Loss
    strength: Number = 1.0


class StaticCircuitSpec(Intervening):
    """Locate the circuit once: gradients summed over many batches on the original model, then applied in every loop
    under the retain-sign mask (appendix E)."""

    type: Literal["static_circuit"]
    circuits: tuple[CircuitSource, ...] = Field(
        (CircuitSource(loss=NegCrossEntropy(type="neg_cross_entropy")),), min_length=1, strict=False
    )
    """Mixed by their strengths; each is rescaled to norm √N first."""
    locate_loops: Count = 20
    """Loops at the start that locate: one forget batch each, for every circuit in turn."""
    mask: Annotated[NoMask | SignMask, Field(discriminator="type")] = SignMask(type="sign")
    unlearning_rate: Rate
    """Root mean square of one update before masking."""
    retaining_rate: Rate = 1e-3
    retain_momentum: Share = 0.9

    def passes_per_loop(self) -> int:
        """Forward and backward on one batch: of the forget set while locating, then of the retain set."""
        return 2

    def start_up_loops(self) -> int:
        return self.locate_loops

    @model_validator(mode="after")
    def _all_are_located(self) -> "StaticCircuitSpec":
        if self.locate_loops < len(self.circuits):
            message = f"{self.locate_loops} loops cannot locate {len(self.circuits)} circuits, which take turns"
            raise between_fields([FieldFault("locate_loops", message, "give at least one loop for each")])
        return self


class NeuronAblationSpec(Intervening):
    """Neurons that are active on the forget set and silent on the retain set are scaled, once, at the end. The target
    modules are second MLP layers: their inputs are the neurons."""

    retains: ClassVar[bool] = False
    type: Literal["neuron_ablation"]
    share: Share = 0.002
    """Share of neurons that are scaled: those of the highest ratio of mean squared activations."""
    factor: Number = 0.0
    """0 ablates; −0.4 was tried too."""

    def passes_per_loop(self) -> int:
        """One forward on each set."""
        return 2


class WeightAblationSpec(Intervening):
    """Weights that matter to the forget set and not to the retain set are scaled, once, at the end."""

    retains: ClassVar[bool] = False
    type: Literal["weight_ablation"]
    importance: Literal["activation", "gradient"] = "gradient"
    """``activation``: squared activations around a gated MLP (target modules: gate and up projections);
    ``gradient``: absolute gradients."""
    ratio: Rate = 20.0
    """Importance for forgetting over importance for retaining above which a weight is scaled."""
    factor: Number = -3.0
    """−3 flips and grows; 0 ablates."""

    def passes_per_loop(self) -> int:
        """A forward on each set, with gradients a backward too."""
        return 2 if self.importance == "activation" else 4


class NoUnlearning(Method):
    """Leave the model as it is: the baseline that every method is compared with."""

    retains: ClassVar[bool] = False
    type: Literal["none"]

    def passes_per_loop(self) -> int:
        return 1


MethodSpec = Annotated[
    MudmanSpec
    | GradientAscentSpec
    | GradientDifferenceSpec
    | CircuitBreakersSpec
    | NestedSpec
    | TarSpec
    | RandomMappingSpec
    | StaticCircuitSpec
    | NeuronAblationSpec
    | WeightAblationSpec
    | NoUnlearning,
    Field(discriminator="type"),
]
