"""What a trial is judged by, as its record has it: the same for the trial that runs and for whoever checks it later."""

from collections.abc import Iterable

from mudman.results import Curve, Measurement
from mudman.specs import StudySpec
from mudman.specs.evaluations import Evaluation
from mudman.specs.repeats import Recorded


def attacked_losses(relearning: Curve | Recorded) -> tuple[float | None, float | None]:
    """Lowest and last forget loss over the attack's checks; the model before it is none of them."""
    points = zip(relearning.passes, relearning.forget_loss, strict=True)
    checks = [loss for passes, loss in points if passes > 0 and loss is not None]
    return (min(checks), checks[-1]) if checks else (None, None)


def judged(spec: StudySpec, relearning: Curve | Recorded) -> float | None:
    """The forget loss that the objective is, if the attack ends with these checks."""
    minimum, final = attacked_losses(relearning)
    return minimum if spec.objective.reduce == "min" else final


def measuring(spec: StudySpec, what: str | None) -> Evaluation | None:
    """The multiple-choice evaluation that measures ``what``; None asks for the cloze."""
    wanted = ("cloze", None) if what is None else ("multiple_choice", what)
    return next((e for e in spec.evaluations if (e.type, getattr(e, "measures", None)) == wanted), None)


def deciding(spec: StudySpec) -> Evaluation | None:
    """The evaluation whose number is the objective; None where a loss is."""
    if spec.objective.metric == "forget_loss":
        return None
    return measuring(spec, "forget" if spec.objective.metric == "wmdp_accuracy" else None)


def values(spec: StudySpec, relearning: Curve, measurements: Iterable[Measurement]) -> list[float | None]:
    """What the objective can be by a finished trial's record: one number, or several where evaluations of one set of
    questions differ in their settings alone."""
    if spec.objective.metric == "forget_loss":
        return [judged(spec, relearning)]
    name = deciding(spec).questions
    return [one.value for one in measurements if (one.when, one.name) == ("attacked", name)]
