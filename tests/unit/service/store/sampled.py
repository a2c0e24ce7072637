"""Searches of a smooth function, for every sampler alike."""

import math

from mudman.results import Outcome
from mudman.specs import StudySpec, parse
from service.store.attempts import Ending
from service.store.mirror import Mirror

FAST = ["tpe", "random", "grid", "cmaes"]
"""Samplers that answer at once; the Gaussian process takes a second."""
RANGES = {
    "unlearning_rate": {"low": 1e-7, "high": 0.3, "log": True},
    "fork_every": {"low": 6, "high": 42, "int": True},
}
QUESTIONS = {"type": "multiple_choice", "questions": "wmdp-bio", "measures": "forget"}


def spec(
    sampler: str, *, trials: int = 4, ranges: dict | None = None, minimize: bool = False, pruner=None, **settings
) -> StudySpec:
    if sampler == "tpe":
        settings = {"startup_trials": 5} | settings
    minimized = {"objective": {"metric": "wmdp_accuracy", "reduce": "final", "direction": "minimize"}}
    return parse(
        {
            "name": "study",
            "model": {"id": "simulated"},
            "forget": {"corpus": "python-functions"},
            "retain": {"corpus": "wikitext"},
            "method": {"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 0.1}
            | (RANGES if ranges is None else ranges),
            "attack": {"rate": 3e-3, "passes": 20},
            "budget": {"unlearn_passes": 50, "trials": 1 if ranges == {} else trials},
            "constraint": {"retain_loss_increase": 0.05},
            "sampler": {"type": sampler, **settings},
            "pruner": pruner,
        }
        | ({"evaluations": [QUESTIONS], **minimized} if minimize else {})
    )


def quadratic(hyperparameters: dict[str, float]) -> float:
    """0 at a rate of 10^-3 and an interval of 20, and falling from there."""
    x = (math.log10(hyperparameters["unlearning_rate"]) + 3) / 2
    y = (hyperparameters.get("fork_every", 20) - 20) / 12
    return -(x * x + y * y + x * y / 2)


def ending(study: StudySpec, hyperparameters: dict[str, float], bound: float = 0.0) -> Ending:
    """Over the budget where the rate is above 10^bound."""
    violation = math.log10(hyperparameters["unlearning_rate"]) - bound if hyperparameters else -1.0
    if violation > 0:
        return Ending(Outcome.OVER_RETAIN_BUDGET, violation=violation)
    sign = 1 if study.objective.direction == "maximize" else -1
    return Ending(Outcome.VALID, sign * quadratic(hyperparameters), violation)


def play(study: StudySpec, trials: int, bound: float = 0.0) -> list[tuple[dict[str, float], Ending]]:
    """With one worker."""
    mirror, rows = Mirror(study), []
    for _ in range(trials):
        suggestion = mirror.ask()
        end = ending(study, suggestion.hyperparameters, bound)
        mirror.tell(suggestion.ordinal, end)
        rows.append((suggestion.hyperparameters, end))
    return rows
