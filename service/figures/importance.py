"""Which hyper-parameters decide whether a trial is among the best: Optuna's PED-ANOVA (arXiv 2304.10255)."""

from collections.abc import Mapping, Sequence

from mudman.specs import Range
from service.figures.style import BLUE, Figure, figure
from service.statistics.compute import Attempt

FEWEST = 10
"""Valid trials that it needs: it looks at the best tenth."""


def importances(space: Mapping[str, Range], valid: Sequence[Attempt], *, minimise: bool) -> dict[str, float]:
    """Share of each hyper-parameter, the largest first; they add up to 1. ``valid``: ``FEWEST`` trials or more."""
    import optuna
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {
        name: IntDistribution(int(one.low), int(one.high), log=one.log)
        if one.int
        else FloatDistribution(one.low, one.high, log=one.log)
        for name, one in space.items()
    }
    study = optuna.create_study(direction="minimize" if minimise else "maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: (int if space[name].int else float)(one.hyperparameters[name]) for name in space},
                distributions=distributions,
                value=one.value,
            )
            for one in valid
            if space.keys() <= one.hyperparameters.keys()
        ]
    )
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def importance(name: str, found: Mapping[str, float], used: int, valid: int) -> Figure:
    """``used``: of the valid trials, those that were looked at."""
    many = f"{used} of {valid}" if used < valid else f"{valid}"
    return figure(
        f"{name}: importance",
        f"share in what sets the best tenth of {many} valid trials apart (PED-ANOVA)",
        width=420,
        height={"step": 26},
        data={"values": [{"hyper-parameter": path, "importance": share} for path, share in found.items()]},
        mark={"type": "bar", "color": BLUE, "tooltip": True},
        encoding={
            "x": {"field": "importance", "type": "quantitative", "axis": {"format": ".0%"}},
            "y": {"field": "hyper-parameter", "type": "nominal", "sort": "-x", "title": None},
        },
    )
