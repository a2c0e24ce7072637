"""One study of a running system without its processes: tests are its runners."""

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import func, select, text, update

from mudman.results import Decision, TrialResult
from mudman.simulation import simulate
from service.store import attempts, enqueued, leases, optuna_rows, studies
from service.store.attempts import Report
from service.store.database import optuna_url
from service.store.states import Action
from service.store.tables import Group, OutcomeCount, Study, Trial
from workers.study import StudyInHand


class Case:
    """One running study, and as many runners in turn as a test needs."""

    def __init__(self, database, spec):
        self.database = database
        with database.begin() as session:
            self.id = studies.create(session, spec).study.id
            studies.change_state(session, self.id, Action.PREPARE)
            studies.change_state(session, self.id, Action.RUN)

    def take_over(self) -> StudyInHand:
        self.take_over_lease()
        return self.in_hand(self.id)

    def take_over_lease(self) -> None:
        with self.database.begin() as session:
            session.execute(update(Group).values(expires_at=func.now() - text("interval '1 second'")))
        with self.database.begin() as session:
            self.lease = leases.claim(session, "one", 60)

    def another(self, spec, *, queued: bool = False) -> str:
        """A second study of the same group."""
        with self.database.begin() as session:
            study = studies.add(session, spec, session.get_one(Study, self.id).group_id)
            if not queued:
                studies.change_state(session, study.id, Action.PREPARE)
                studies.change_state(session, study.id, Action.RUN)
            return study.id

    def next_begun(self):
        """Another runner has taken over, and a worker has begun the next trial."""
        study = self.take_over()
        return begun(self.database, self.lease, study.next())

    def in_hand(self, study_id: str) -> StudyInHand:
        """Of the runner that took over last."""
        return StudyInHand(self.database, self.lease, study_id)

    def rows(self) -> list[tuple]:
        with self.database.begin() as session:
            query = select(Trial).where(Trial.study_id == self.id).order_by(Trial.ordinal, Trial.attempt)
            return [(row.ordinal, row.attempt, row.outcome) for row in session.scalars(query)]

    def trials(self) -> list[Trial]:
        with self.database.begin() as session:
            query = select(Trial).where(Trial.study_id == self.id).order_by(Trial.ordinal, Trial.attempt)
            return list(session.scalars(query))

    def counts(self) -> dict[str, int]:
        """Finished attempts by outcome, as they are kept."""
        with self.database.begin() as session:
            query = select(OutcomeCount.outcome, OutcomeCount.attempts).where(OutcomeCount.study_id == self.id)
            return dict(session.execute(query).tuples().all())

    def at_optuna(self) -> list[tuple[str, float | None]]:
        """State and violation of every trial, as Optuna itself reads them."""
        storage = RDBStorage(optuna_url(self.database.url))
        try:
            trials = optuna.load_study(study_name=self.id, storage=storage).trials
        finally:
            storage.engine.dispose()
        return [(trial.state.name, trial.constraints.get(optuna_rows.CONSTRAINT)) for trial in trials]

    def running_in_optuna(self) -> list[int]:
        with self.database.begin() as session:
            return optuna_rows.running(session, self.id)

    def enqueue(self, *chosen: dict[str, float]) -> None:
        with self.database.begin() as session:
            enqueued.add(session, self.id, {("trials", str(index)): values for index, values in enumerate(chosen)})

    def state(self) -> str:
        with self.database.begin() as session:
            return session.get_one(Study, self.id).state

    def change_state(self, action: Action) -> None:
        with self.database.begin() as session:
            studies.change_state(session, self.id, action)


def begun(database, lease, attempt):
    """A worker has said its first word of the attempt."""
    report = Report(attempt.study_id, attempt.ordinal, attempt.attempt, None, {"pid": 1})
    with database.begin() as session:
        attempts.progress(session, lease, [report])
    return attempt


def result_of(study: StudyInHand, attempt) -> TrialResult:
    return simulate(study.spec, attempt.hyperparameters, lambda progress: Decision.CONTINUE)
