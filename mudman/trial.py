"""One whole trial: unlearn, attack by relearning, measure. A plain function that knows of no database and no Ray."""

import traceback
from collections.abc import Mapping
from typing import Any

from mudman import checkpoints, simulation
from mudman.checkpoints import Keeping
from mudman.faults import SpecError
from mudman.record import BelowCut, Record, StopOrdered
from mudman.results import Decision, Fault, Outcome, Progress, Report, TrialResult
from mudman.specs import MethodSpec, StudySpec, parse, resolve
from mudman.specs.base import CHECK_EVERY


def run_trial(
    spec: StudySpec | Mapping[str, Any],
    hyperparameters: Mapping[str, float],
    report: Report | None = None,
    cuts: Mapping[int, float] | None = None,
    keeping: "Keeping | None" = None,
) -> TrialResult:
    """Run one trial and say how it ended.

    :param spec: the study, or the mapping that a spec file holds.
    :param hyperparameters: a value for every range of the method, by dotted path (``adversary.decay``).
    :param report: called as each phase begins and after every pass; answering ``Decision.STOP`` ends the trial before
        the next one.
    :param cuts: of the study's pruner (``mudman.pruning.cuts``), in nats per token by passes of the attack: a trial
        whose objective is below one at that check is pruned. Without them the attack runs to its end.
    :param keeping: where the unlearned weights are saved before they are attacked, with a card
        (``mudman.checkpoints``).
    :returns: a result for every way a trial can end, bad numbers, lack of memory and exceptions included.
    :raises SpecError: hyper-parameters that do not fit, a model or text that cannot be had: no trial took place.
    """
    spec = spec if isinstance(spec, StudySpec) else parse(dict(spec))
    method = resolve(spec.method, dict(hyperparameters))
    trial = Record(spec, report or _carry_on, cuts or {})
    if spec.model.id == simulation.MODEL_ID:
        return simulation.simulate(spec, dict(hyperparameters), trial.report, trial.cuts)

    import torch

    from mudman.bench import device_for, give_back_memory
    from mudman.precision import computing

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpus)))
    try:
        with computing(spec.model, device_for(spec)):
            return _run(spec, method, trial, dict(hyperparameters), keeping)
    except StopOrdered:
        return trial.result(Outcome.CANCELLED)
    except BelowCut:
        return trial.result(Outcome.PRUNED, ended_by_check=True)
    except SpecError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a trial raises is its result, stored with its traceback
        ended = trial.result(Outcome.OUT_OF_MEMORY if _ran_out(error) else Outcome.ERROR, fault=_fault(error))
    finally:
        torch.set_num_threads(threads)
    if ended.outcome is Outcome.OUT_OF_MEMORY:  # here nothing refers to the trial's tensors any more
        give_back_memory()
    return ended


def _run(
    spec: StudySpec, method: MethodSpec, trial: Record, chosen: dict[str, float], keeping: "Keeping | None"
) -> TrialResult:
    import torch

    from mudman.bench import bench_for
    from mudman.engine import relearn, unlearn

    bench = bench_for(spec)
    bench.restore()
    trial.begin(bench)

    torch.manual_seed(spec.seeds.trial)
    passes = 0 if method.type == "none" else spec.budget.unlearn_passes
    _, unlearning = unlearn(
        bench.model,
        bench.forget.training,
        bench.retain.training,
        method,
        passes,
        evaluation=bench.evaluation,
        start=bench.untouched,
        check_every=spec.constraint.check_every if spec.constraint else CHECK_EVERY,
        stop_when=trial.is_over,
        pause_when=trial.constraint and trial.constraint.pauses,
        on_pass=trial.on_pass("unlearn", passes),
        trace=spec.record.trace,
        original=bench.original,
    )
    trial.trace, trial.paused_passes = unlearning.trace, unlearning.paused_passes
    trial.zero_norm_loops = unlearning.zero_norm_loops
    if unlearning.diverged:
        return trial.result(Outcome.DIVERGED, ended_by_check=unlearning.stopped_at_pass is not None)
    if unlearning.stopped_at_pass is not None:
        return trial.result(Outcome.OVER_RETAIN_BUDGET, ended_by_check=True)
    trial.measure_all("unlearned")
    if keeping:
        checkpoints.save(bench, keeping.folder)

    torch.manual_seed(spec.seeds.trial)
    _, relearning = relearn(
        bench.model,
        bench.attack_batches,
        spec.attack,
        bench.retain.attack if spec.attack.retain else None,
        evaluation=bench.evaluation,
        start=trial.points["unlearn"][-1],
        on_pass=trial.on_pass("relearn", spec.attack.passes),
    )
    if relearning.diverged:
        return trial.result(Outcome.DIVERGED, ended_by_check=relearning.stopped_at_pass is not None)
    trial.measure_all("attacked")
    result = trial.result(Outcome.DIVERGED if trial.value() is None else Outcome.VALID)
    if keeping and result.outcome is Outcome.VALID:
        kept = checkpoints.finish(spec, chosen, bench, keeping, result)
        return result.model_copy(update={"checkpoint": kept})
    return result


def _ran_out(error: Exception) -> bool:
    import torch

    words = str(error).lower()
    typed = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return typed or "can't allocate memory" in words or "out of memory" in words


def _carry_on(progress: Progress) -> Decision:
    return Decision.CONTINUE


def _fault(error: BaseException) -> Fault:
    return Fault(type=type(error).__name__, message=str(error)[:2000], traceback=traceback.format_exc()[-8000:])
