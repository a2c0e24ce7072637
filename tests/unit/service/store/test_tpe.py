"""The fast TPE suggests what Optuna's own does, bit by bit, whatever the trials were."""

import optuna
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from service.store import tpe
from service.store.tpe import Tpe

SPACE = {
    "rate": FloatDistribution(1e-7, 0.3, log=True),
    "momentum": FloatDistribution(0.0, 0.99),
    "every": IntDistribution(6, 42),
    "rank": IntDistribution(1, 64, log=True),
}
POINTS = st.fixed_dictionaries(
    {
        "rate": st.floats(-6.9, -0.6).map(lambda power: 10**power),
        "momentum": st.floats(0, 0.99),
        "every": st.integers(6, 42),
        "rank": st.integers(1, 64),
    }
)
ENDS = st.tuples(
    st.sampled_from(["complete", "pruned", "infeasible", "running", "failed"]),
    st.sampled_from([1.0, 2.0, 2.5, 3.0]),  # ties are common
    st.sampled_from([0, 30, 60]),
)


def optunas(trials, seed: int, direction: str) -> dict[str, float]:
    study = optuna.create_study(sampler=TPESampler(seed=seed, n_startup_trials=0), direction=direction)
    states = {
        "complete": "COMPLETE",
        "pruned": "PRUNED",
        "infeasible": "PRUNED",
        "running": "RUNNING",
        "failed": "FAIL",
    }
    for point, (kind, value, step) in trials:
        trial = create_trial(
            state=TrialState[states[kind]],
            params=point,
            distributions=SPACE,
            value=value if kind == "complete" else None,
            intermediate_values={step: value} if kind == "pruned" and step else None,
        )
        if kind == "infeasible":
            trial.set_constraint("bound", value)
        study.add_trial(trial)
    # As for a study whose trials all have the space: that is what Optuna would infer from one that has finished.
    running = study.ask(SPACE) if _learns(trials) else None
    return running.params if running else {}


def _learns(trials) -> bool:
    return any(kind in ("complete", "pruned", "infeasible") for _, (kind, _, _) in trials)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(POINTS, ENDS), min_size=1, max_size=40), st.integers(0, 2**32 - 1), st.booleans())
def test_suggests_as_optuna_does(trials, seed, maximize):
    sign = -1 if maximize else 1
    fast = Tpe(SPACE)
    for point, (kind, value, step) in trials:
        number = fast.add(point)
        match kind:
            case "complete":
                fast.tell(number, tpe.COMPLETE, sign * value)
            case "pruned" if step:
                fast.tell(number, tpe.PRUNED, -step, sign * value)
            case "pruned":
                fast.tell(number, tpe.PRUNED, 1, 0)
            case "infeasible":
                fast.tell(number, tpe.INFEASIBLE, value)
            case "failed":
                fast.tell(number, tpe.LEFT_OUT)
    if not _learns(trials):
        assert fast.finished == 0
        return
    assert fast.suggest(seed) == optunas(trials, seed, "maximize" if maximize else "minimize")
