"""Published numbers beside our own: ``python -m mudman.reproduce`` (or ``make reproduce``).

Every row says what was published and where, what was measured here, and whether the two agree; a row that could not be
run says why. Most rows need the hub, some a GPU. Exit status: 0 when every row agrees, 1 when one differs, 2 when none
differs and some could not be run.

Tolerances: a loss is taken on 16 sequences of 100 tokens, drawn here by another shuffle than the published one; its
standard error is about a tenth of a nat. Accuracies are over the same questions, so that only rounding is left.
"""

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mudman import presets
from mudman.faults import SpecError
from mudman.results import Outcome, TrialResult
from mudman.specs import ModelSpec, Range, StudySpec, parse
from mudman.specs.evaluations import MultipleChoiceEvaluation
from mudman.trial import run_trial

PAPER = "arXiv 2506.12484"
CODE = f"{PAPER}, recorded in its published code"


class Verdict(StrEnum):
    AGREES = "agrees"
    DIFFERS = "DIFFERS"
    NOT_RUN = "not run"


class NotRun(Exception):
    """Nothing was measured; the message says why."""


@dataclass(frozen=True)
class Row:
    """One published number, or an order of two."""

    name: str
    source: str
    measure: Callable[[], float]
    """Raises ``NotRun`` or ``SpecError`` where it cannot be had here."""
    expected: float
    tolerance: float | None
    """Largest distance that agrees; None where ``expected`` is the least that agrees."""

    def agrees(self, measured: float) -> bool:
        if self.tolerance is None:
            return measured >= self.expected
        return abs(measured - self.expected) <= self.tolerance

    @property
    def expectation(self) -> str:
        return f"at least {self.expected:g}" if self.tolerance is None else f"{self.expected:g} ± {self.tolerance:g}"


@dataclass(frozen=True)
class Finding:
    row: Row
    verdict: Verdict
    measured: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        measured = "" if self.measured is None else f", measured {self.measured:.4f}"
        reason = f": {self.reason}" if self.reason else ""
        row = self.row
        return f"{self.verdict:8} {row.name}: expected {row.expectation}{measured} ({row.source}){reason}"


def check(row: Row) -> Finding:
    """Runs one row. Only what makes a row impossible here counts as not run; any other failure differs, or raises."""
    try:
        measured = row.measure()
    except NotRun as reason:
        return Finding(row, Verdict.NOT_RUN, reason=str(reason))
    except SpecError as error:
        return Finding(row, Verdict.NOT_RUN, reason=str(error.faults[0]))
    except _Failed as reason:
        return Finding(row, Verdict.DIFFERS, reason=str(reason))
    return Finding(row, Verdict.AGREES if row.agrees(measured) else Verdict.DIFFERS, measured)


def exit_status(findings: Sequence[Finding]) -> int:
    verdicts = {finding.verdict for finding in findings}
    return 1 if Verdict.DIFFERS in verdicts else 2 if Verdict.NOT_RUN in verdicts or not findings else 0


# ---------------------------------------------------------------------------------------------------- measurements


class _Failed(Exception):
    """A trial ended in another way than the published one."""


def relearned(study: dict) -> Callable[[], float]:
    """Lowest forget loss of the model without unlearning under the study's attack."""

    def measure() -> float:
        return _value(run_trial(_on_this_machine(study | {"method": {"type": "none"}, "constraint": None}), {}))

    return measure


def accuracy(model: ModelSpec, evaluation: MultipleChoiceEvaluation) -> Callable[[], float]:
    """Of the untouched model, by the published protocol."""

    def measure() -> float:
        import torch

        from mudman.evals.multiple_choice import MultipleChoice
        from mudman.models import load_model

        _need_gpu(model)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        loaded = load_model(model, device)
        return MultipleChoice(evaluation, "evaluations", loaded.model, loaded.tokenizer).measure("untouched")[0].value

    return measure


def ahead(study: dict, others: Sequence[dict], trials: int) -> Callable[[], float]:
    """Best forget loss of ``study`` over the best of all ``others``, each searched by as many random trials."""

    def measure() -> float:
        if not trials:
            raise NotRun("a search takes hours; ask for it with --search 30")
        return _best(study, trials) / max(_best(other, trials) for other in others)

    return measure


def _best(study: dict, trials: int) -> float:
    spec, draw = _on_this_machine(study), random.Random(0)
    results = [
        run_trial(spec, {path: _drawn(r, draw) for path, r in spec.search_space().items()}) for _ in range(trials)
    ]
    valid = [result.value for result in results if result.outcome is Outcome.VALID]
    if not valid:
        raise _Failed(f"none of {trials} trials of {spec.name} was valid")
    return max(valid)


def _drawn(bounds: Range, draw: random.Random) -> float:
    if bounds.log:
        value = bounds.low * (bounds.high / bounds.low) ** draw.random()
    else:
        value = draw.uniform(bounds.low, bounds.high)
    return float(round(value)) if bounds.int else value


def _value(result: TrialResult) -> float:
    if result.outcome is not Outcome.VALID:
        raise _Failed(f"the trial ended as {result.outcome}" + (f": {result.fault.message}" if result.fault else ""))
    return result.value


def _on_this_machine(study: dict) -> StudySpec:
    """On a whole card where there is one; without one on the processor, if the model is small."""
    import torch

    spec = parse({key: value for key, value in study.items() if key != "variants"})
    _need_gpu(spec.model)
    gpus = 1.0 if torch.cuda.is_available() else 0.0
    return spec.model_copy(update={"resources": spec.resources.model_copy(update={"gpus": gpus})})


def _need_gpu(model: ModelSpec) -> None:
    import torch

    if model.dtype == "bfloat16" and not torch.cuda.is_available():
        raise NotRun(f"{model.id} in bfloat16 needs a GPU, and this machine shows none")


# ------------------------------------------------------------------------------------------------------------ rows


def rows(search: int = 0) -> list[Row]:
    """All published rows; ``search``: random trials per variant where the order of variants is compared."""
    llama = ModelSpec(id="meta-llama/Llama-3.2-1B", dtype="bfloat16")
    baselines = [
        f"ablations-{model}-{texts}" for model in ("pythia", "smol", "llama") for texts in ("pile-bio", "python")
    ]
    mudman, *without = (presets.load("additions-pythia-python", variant=v) for v in ("mudman", *_COMPARED))
    return [
        *(
            Row(f"relearning alone: {name}", CODE, relearned(presets.load(name)), _baseline(name), 0.3)
            for name in baselines
        ),
        Row("Llama-3.2-1B on WMDP-Bio, temperature 0", CODE, accuracy(llama, _choices("wmdp-bio", 0)), 0.472, 0.01),
        Row(
            name="Llama-3.2-1B on MMLU without biology, temperature 1",
            source=CODE,
            measure=accuracy(llama, _choices("mmlu-no-biology", 1)),
            expected=0.297,
            tolerance=0.005,
        ),
        Row(
            name=f"MUDMAN over the better of {' and '.join(_COMPARED)}: additions-pythia-python",
            source=f"{PAPER}: 11.3 over 4.6 and 5.0, mean of the last 20 valid of 600 trials",
            measure=ahead(mudman, without, search),
            expected=1.5,
            tolerance=None,
        ),
    ]


_COMPARED = ("no_masking", "no_adversary")


def _baseline(preset: str) -> float:
    return float(presets.about(preset).expected["baseline"])


def _choices(questions: str, temperature: int) -> MultipleChoiceEvaluation:
    return MultipleChoiceEvaluation(
        type="multiple_choice", questions=questions, measures="utility", temperature=temperature
    )


def main(arguments: Sequence[str] | None = None, table: Callable[[int], list[Row]] = rows) -> int:
    parser = argparse.ArgumentParser(prog="python -m mudman.reproduce", description="Published numbers beside our own.")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--search", type=int, default=0, metavar="TRIALS", help="random trials per variant, for orders")
    given = parser.parse_args(arguments)
    findings = []
    for row in table(given.search):
        if given.only.lower() in row.name.lower():
            findings.append(check(row))
            sys.stdout.write(f"{findings[-1]}\n")
            sys.stdout.flush()
    counts = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    sys.stdout.write(", ".join(f"{count} {verdict.lower()}" for verdict, count in counts.items()) + "\n")
    return exit_status(findings)


if __name__ == "__main__":
    sys.exit(main())
