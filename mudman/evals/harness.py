"""Tasks of lm-evaluation-harness on the model as it stands, for reporting beside other people's numbers.

Prompts, shots and scoring are the harness's own; so are the versions that its results name.
"""

import copy
import difflib
import math
from collections.abc import Iterator
from importlib.metadata import version

from torch import nn

from mudman.evals.batched import plain_settings
from mudman.faults import FieldFault, SpecError
from mudman.hub import HUB_ERRORS, first_line
from mudman.modes import in_mode
from mudman.results import Measurement
from mudman.specs.evaluations import HarnessEvaluation

_BOOTSTRAPS = 1000  # resamplings behind a standard error, where a metric has no formula for it


class Harness:
    """The tasks of one evaluation, their data loaded once."""

    def __init__(self, spec: HarnessEvaluation, path: str, model: nn.Module, tokenizer, tasks=None):
        """``path``: of the evaluation in the study; ``tasks``: a ``TaskManager``, by default that of the harness.

        Raises ``SpecError`` at ``path`` where the package, a task, or a task's data is not there.
        """
        try:
            from lm_eval.models.huggingface import HFLM  # noqa: F401 - it needs accelerate, which lm-eval alone lacks
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise _not_installed(path) from error

        self.spec, self.model, self.tokenizer = spec, model, copy.deepcopy(tokenizer)  # the harness sets its padding
        self.manager = tasks or TaskManager()
        _check_names(spec, path, self.manager.all_tasks)
        self.tasks = []
        for index, name in enumerate(spec.tasks):
            try:
                self.tasks += list(self.manager.load([name])["tasks"].values())
            except (*HUB_ERRORS, OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError) as error:
                raise SpecError.at(
                    f"{path}.tasks.{index}",
                    f"{name} cannot be loaded: {first_line(error)}",
                    "give the workers access to the hub (HF_ENDPOINT names a mirror), or take another task",
                ) from error

    def measure(self, when: str) -> tuple[Measurement, ...]:
        """Every metric of every task. Random numbers outside stay as they are."""
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        with in_mode(self.model, training=False):
            results = simple_evaluate(
                HFLM(pretrained=self.model, tokenizer=self.tokenizer, backend="causal", batch_size=16),
                tasks=self.tasks,
                task_manager=self.manager,
                num_fewshot=self.spec.few_shot,
                limit=self.spec.limit,
                bootstrap_iters=_BOOTSTRAPS,
                log_samples=False,
                random_seed=None,
                numpy_random_seed=None,
                torch_random_seed=None,
            )
        return tuple(_measurements(results, when, plain_settings(self.spec, "tasks")))


def _measurements(results: dict, when: str, settings: dict) -> Iterator[Measurement]:
    for task, found in results["results"].items():
        for key, value in found.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = found.get(f"{metric}_stderr,{kind}")
            yield Measurement(
                name=f"lm_eval/{task}/{metric}",
                protocol="lm-evaluation-harness",
                version=f"{version('lm-eval')}, task version {results['versions'].get(task)}",
                when=when,
                value=value,
                standard_error=error if isinstance(error, float) and math.isfinite(error) else None,
                n=results["n-samples"][task]["effective"],
                settings={**settings, "few_shot": results["n-shot"].get(task), "filter": kind},
            )


def _check_names(spec: HarnessEvaluation, path: str, known: list[str]) -> None:
    faults = []
    for index, name in enumerate(spec.tasks):
        if name not in known:
            close = ", ".join(difflib.get_close_matches(name, known, n=3)) or "lm-eval ls tasks lists them"
            message = f"lm-evaluation-harness has no task {name!r}"
            faults.append(FieldFault(f"{path}.tasks.{index}", message, f"take a task that it has: {close}"))
    if faults:
        raise SpecError(faults)


def _not_installed(path: str) -> SpecError:
    return SpecError.at(
        path, "lm-evaluation-harness is not installed on the workers", 'install it there: pip install "mudman[harness]"'
    )
