"""A database at size, filled in bulk by the server itself: what runners would have left, in both sets of tables."""

from collections.abc import Sequence

from optuna.distributions import FloatDistribution, distribution_to_json
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.results import Outcome, TrialResult
from service.store import optuna_rows
from service.store.tables import OutcomeCount

_TRIALS = text(
    """
    insert into mudman.trial (study_id, ordinal, attempt, epoch, optuna_id, hyperparameters, outcome, value, result,
        log, worker, started_at, finished_at)
    select :study, n, 1, 1, nextval('optuna.trials_trial_id_seq'), (
            select jsonb_object_agg(name, (7919 * n + 104729 * which) % 1000003 / 1000003.0)
            from unnest(cast(:names as text[])) with ordinality as given(name, which)
        ),
        case when n % 10 < 7 then 'valid' when n % 10 = 7 then 'over_retain_budget' when n % 10 = 8 then 'diverged'
            else 'error' end,
        case when n % 10 < 7 then round(random()::numeric, :digits) end,
        cast(:result as jsonb) || jsonb_build_object('violation', case when n % 10 < 7 then -0.5 else 0.5 end),
        repeat('a line of the log ', 20), '{"pid": 1}', now() - interval '10 seconds', now()
    from generate_series(0, :trials - 1) n
    """
)
_OPEN = text(
    """
    insert into mudman.trial (study_id, ordinal, attempt, epoch, hyperparameters, started_at)
    select study_id, :trials + n, 1, 1, hyperparameters, now()
    from mudman.trial, generate_series(0, 3) n where study_id = :study and ordinal = 0
    """
)
_COUNTS = text(
    """
    insert into mudman.outcome_count (study_id, outcome, attempts, seconds)
    select study_id, outcome, count(*), sum(extract(epoch from finished_at - started_at))
    from mudman.trial where study_id = :study and outcome is not null group by study_id, outcome
    """
)
_EVENTS = text(
    """
    with added as (
        insert into mudman.event (study_id, sequence, kind, data)
        select id, last_event + n, 'trial_finished', '{}' from mudman.study, generate_series(1, 2 * :trials) n
        where id = :study
        returning 1
    )
    update mudman.study set last_event = last_event + 2 * :trials where id = :study
    """
)
_AT_OPTUNA = [
    """
    insert into optuna.trials (trial_id, study_id, number, state, datetime_start, datetime_complete)
    select t.optuna_id, s.study_id, t.ordinal, (case outcome when 'valid' then 'COMPLETE' when 'error' then 'FAIL'
        else 'PRUNED' end)::optuna.trialstate, started_at, finished_at
    from mudman.trial t join optuna.studies s on s.study_name = t.study_id
    where t.study_id = :study and t.optuna_id is not null
    """,
    """
    insert into optuna.trial_params (trial_id, param_name, param_value, distribution_json)
    select optuna_id, its.name, its.value::float8, :distribution
    from mudman.trial, jsonb_each_text(hyperparameters) as its(name, value)
    where study_id = :study and optuna_id is not null
    """,
    """
    insert into optuna.trial_user_attributes (trial_id, key, value_json)
    select optuna_id, key, ordinal::text from mudman.trial, unnest(array['ordinal', 'open_when_asked']) key
    where study_id = :study and optuna_id is not null
    """,
    """
    insert into optuna.trial_values (trial_id, objective, value, value_type)
    select optuna_id, 0, value, 'FINITE' from mudman.trial where study_id = :study and value is not null
    """,
]
DISTRIBUTION = distribution_to_json(FloatDistribution(0.0, 1.0))


def fill(
    session: Session,
    study_id: str,
    trials: int,
    *,
    digits: int = 9,
    names: Sequence[str] = ("unlearning_rate",),
    result: TrialResult | None = None,
) -> None:
    """That many finished trials (7 in 10 valid), and four that run. ``digits`` of a value: few make many ties;
    ``names`` of the hyper-parameters."""
    optuna_rows.create(session, study_id, "maximize")
    result = result or TrialResult(outcome=Outcome.VALID, violation=-0.5, seconds=9.0, passes_booked=10, passes_made=10)
    document = result.model_dump_json(exclude={"log"})
    given = {"study": study_id, "trials": trials}
    session.execute(_TRIALS, {**given, "result": document, "digits": digits, "names": list(names)})
    session.execute(_OPEN, given)
    session.execute(_COUNTS, given)
    session.execute(_EVENTS, given)
    for statement in _AT_OPTUNA:
        session.execute(text(statement), {**given, "distribution": DISTRIBUTION})


def count(session: Session, study_id: str, outcome: str, seconds: float) -> None:
    """One more attempt has ended so, after ``seconds``: for a row that a test made by itself."""
    row = insert(OutcomeCount).values(study_id=study_id, outcome=outcome, attempts=1, seconds=seconds)
    more = {"attempts": OutcomeCount.attempts + 1, "seconds": OutcomeCount.seconds + seconds}
    session.execute(row.on_conflict_do_update(index_elements=["study_id", "outcome"], set_=more))


def multiply(session: Session, study_id: str, studies: int, trials: int) -> None:
    """That many completed studies like the one, each with so many valid trials."""
    session.execute(
        text(
            """
            insert into mudman.study_group (id, priority) select 'copy ' || n, 0 from generate_series(1, :studies) n
            """
        ),
        {"studies": studies},
    )
    session.execute(
        text(
            """
            insert into mudman.study (id, group_id, owner, name, spec, spec_version, spec_hash, state, preparation,
                created_at)
            select 'st_' || lpad(n::text, 16, '0'), 'copy ' || n, owner, 'copy ' || n, spec, spec_version, spec_hash,
                'completed', preparation, created_at - n * interval '1 minute'
            from mudman.study, generate_series(1, :studies) n where id = :study
            """
        ),
        {"study": study_id, "studies": studies},
    )
    session.execute(
        text(
            """
            insert into mudman.trial (study_id, ordinal, attempt, epoch, hyperparameters, outcome, value, started_at,
                finished_at)
            select 'st_' || lpad(n::text, 16, '0'), ordinal, 1, 1, '{}', 'valid', random(), now(), now()
            from generate_series(1, :studies) n, generate_series(1, :trials) ordinal
            """
        ),
        {"studies": studies, "trials": trials},
    )
    session.execute(
        text(
            """
            insert into mudman.outcome_count (study_id, outcome, attempts, seconds)
            select 'st_' || lpad(n::text, 16, '0'), 'valid', :trials, 10 from generate_series(1, :studies) n
            """
        ),
        {"studies": studies, "trials": trials},
    )


def analyze(session: Session) -> None:
    """What autovacuum does on its own, in time."""
    for table in ("trial", "outcome_count", "study", "event"):
        session.execute(text(f"analyze mudman.{table}"))
    session.execute(text("analyze optuna.trials"))
