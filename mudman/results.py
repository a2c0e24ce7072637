"""What a trial says: progress while it runs and one result at its end. Plain data, no torch, JSON-safe (no NaN)."""

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Outcome(StrEnum):
    """How a trial ended. The first four count toward the budget of the study."""

    VALID = "valid"
    OVER_RETAIN_BUDGET = "over_retain_budget"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    """The study's pruner stopped the attack: what was seen until then did not promise enough."""
    OUT_OF_MEMORY = "out_of_memory"
    LOST = "lost"
    CANCELLED = "cancelled"
    ERROR = "error"

    @property
    def counts(self) -> bool:
        """Whether a trial that ended so counts toward ``budget.trials``."""
        return self in (Outcome.VALID, Outcome.OVER_RETAIN_BUDGET, Outcome.DIVERGED, Outcome.PRUNED)

    @property
    def runs_again(self) -> bool:
        """Whether the same ordinal and hyper-parameters are started again: nothing was wrong with the trial itself."""
        return self in (Outcome.LOST, Outcome.CANCELLED)


class Decision(StrEnum):
    """What ``report`` answers: go on, or end the trial between two passes."""

    CONTINUE = "continue"
    STOP = "stop"


# Postgres and JSON know neither NaN nor infinity: a loss that is no number is stored as null.
Loss = Annotated[float | None, BeforeValidator(lambda x: None if x is None or not math.isfinite(x) else float(x))]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Data):
    """One evaluation: mean negative log-likelihood per token, in nats, on the evaluation batches."""

    passes: int
    forget_loss: Loss
    retain_loss: Loss


class Curve(_Data):
    """Evaluations in order, one array per quantity. The first point (0 passes) is the model before the phase."""

    passes: tuple[int, ...] = ()
    forget_loss: tuple[Loss, ...] = ()
    retain_loss: tuple[Loss, ...] = ()

    @classmethod
    def of(cls, points: list[Point]) -> "Curve":
        return cls(
            passes=tuple(p.passes for p in points),
            forget_loss=tuple(p.forget_loss for p in points),
            retain_loss=tuple(p.retain_loss for p in points),
        )


class Progress(_Data):
    """Reported as a phase begins (0 passes) and after every pass; ``point`` is there as it begins, and when the pass
    ended in an evaluation."""

    phase: Literal["unlearn", "relearn"]
    passes: int
    of: int
    point: Point | None = None


Report = Callable[[Progress], Decision]


class Fault(_Data):
    """An exception as data: its type, its message and, for whoever mends it, the traceback."""

    type: str
    message: str
    traceback: str = ""


class Trace(_Data):
    """One value per unlearning loop."""

    loop: tuple[int, ...] = ()
    forget_loss: tuple[Loss, ...] = ()
    """Cross-entropy of the loop's forget batch, where the unlearning gradient is taken (nats per token)."""
    retain_loss: tuple[Loss, ...] = ()
    gradient_norm: tuple[Loss, ...] = ()
    """Of the raw unlearning gradient, over all intervened weights."""
    retain_norm: tuple[Loss, ...] = ()
    """Of this loop's retain gradient."""
    update_norm: tuple[Loss, ...] = ()
    """Of the unlearning update as applied; with the retain part where both are one step (gradient difference, TAR)."""
    agreeing: tuple[Loss, ...] = ()
    """Share of weights where the unlearning gradient has the sign of the retain accumulator, or of this loop's retain
    gradient in methods that have no accumulator."""
    kept: tuple[Loss, ...] = ()
    """Norm of what the mask leaves of the unlearning gradient, over its norm before; 1 without a mask."""
    harmful: tuple[Loss, ...] = ()
    """Share of the update's first-order effect on this loop's retain loss, as the method descends it (a representation
    loss included; with circuit breakers that alone), that raises it."""


class Measurement(_Data):
    """One number of an evaluation, with how it was obtained."""

    name: str
    """``kl``, ``wmdp-bio``, ``mmlu-no-biology``, ``gene-ontology-cloze``, ``lm_eval/<task>/<metric>``."""
    protocol: Literal["published", "lm-evaluation-harness", "cloze", "kl"]
    version: str
    when: Literal["untouched", "unlearned", "attacked"]
    value: Loss
    standard_error: Loss = None
    n: int
    """Questions, or tokens."""
    settings: dict[str, str | int | float | bool | None] = {}


class AttackShape(_Data):
    """What the attack's curve looks like."""

    plateaus: tuple[tuple[int, int], ...] = ()
    """Passes from and to which the forget loss hardly falls although more of its fall is to come."""
    breakthroughs: tuple[int, ...] = ()
    """Passes at which the forget loss falls suddenly."""


class KeptFile(_Data):
    name: str
    bytes: int
    sha256: str


class Checkpoint(_Data):
    """Weights that were kept of a trial: after unlearning, before the attack."""

    ordinal: int | None = None
    """Trial of the search that was run again."""
    agreement: Literal["bit-equal", "within tolerance", "differs", "unknown"]
    """With what the search recorded of its attack."""
    difference: float | None = None
    """Largest, as part of a recorded number; 0: the same to the last bit."""
    files: tuple[KeptFile, ...] = ()
    key: str | None = None
    """Folder in the artifact store; null where none is kept any more."""


class TrialResult(_Data):
    """One finished trial."""

    outcome: Outcome
    value: Loss = None
    """Objective (nats per token, or accuracy); only of a valid trial."""
    violation: Loss = None
    """Worst excess over a bound of the constraint, in units of that bound (nats or accuracy, where the bound is 0):
    above 0 is infeasible."""
    overrun: Loss = None
    """Nats per token (or accuracy) beyond the bound that ended the trial."""
    stopped_at_pass: int | None = None
    """Booked passes, of both phases together, at which a check ended the trial."""
    unlearning: Curve = Curve()
    relearning: Curve = Curve()
    forget_loss_min: Loss = None
    """Lowest forget loss over the attack's checks."""
    forget_loss_final: Loss = None
    retain_loss_unlearned: Loss = None
    """Retain loss after unlearning, before the attack; the last one seen, where the trial ended during unlearning."""
    forget_loss_unlearned: Loss = None
    retain_loss_final: Loss = None
    passes_booked: int = 0
    """Passes as the published procedure books them, both phases."""
    passes_skipped: int = 0
    """Booked passes of the plan that a pruned trial left out."""
    judged: Loss = None
    """Of a pruned trial: the objective at the check that ended it."""
    pruned_below: Loss = None
    """The cut of the study's pruner that it fell below there."""
    passes_made: int = 0
    """Forward and backward passes that really ran, evaluations apart."""
    seconds: float = 0.0
    device: str = "cpu"
    fault: Fault | None = None
    log: str = ""
    violated: str | None = None
    """Bound that ended the trial: ``retain_loss_increase``, ``kl`` or ``mmlu``."""
    paused_passes: int = 0
    """Booked passes of loops in which unlearning paused."""
    zero_norm_loops: int = 0
    """Loops whose unlearning gradient vanished: they had nothing to unlearn."""
    measurements: tuple[Measurement, ...] = ()
    attack_shape: AttackShape | None = None
    trace: Trace | None = None
    token_losses: dict[str, list[list[Loss]]] | None = None
    """Forget loss of each token [sequence][token], of the untouched, unlearned and attacked model."""
    checkpoint: Checkpoint | None = None


class Preparation(_Data):
    """What is known before the first trial: measured once on the untouched model."""

    model_revision: str
    corpora: dict[str, dict]
    """``forget``, ``retain``, and ``attack`` where it has texts of its own: revision, number of examples, SHA-256 of
    the token batches, licence."""
    matched_modules: tuple[str, ...]
    intervened_parameters: int
    initial_forget_loss: float
    initial_retain_loss: float
    baseline: TrialResult
    """The same attack on the model without unlearning."""
    baselines: tuple[TrialResult, ...] = ()
    """Of a study that repeats trials: likewise under each pair of its seeds."""
    seconds: float
    versions: dict[str, str]
    code: dict[str, str | None] = {}
    """``mudman.provenance.code`` of the process that prepared: version, commit and hash of the sources."""
    hardware: dict[str, str | int | None] = {}
    """``mudman.provenance.hardware`` of its node."""
    model_files: dict[str, str] = {}
    """SHA-256 of the files that the model was loaded from, weights and tokenizer, by name."""
