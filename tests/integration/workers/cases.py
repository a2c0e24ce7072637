"""One study of a running system without its processes: tests are its runners."""

from sqlalchemy import func, select, text, update

from mudman.results import Decision, TrialResult
from mudman.simulation import simulate
from service.store import leases, studies
from service.store.search import open_storage, running_in_optuna
from service.store.states import State
from service.store.tables import Group, Study, Trial
from workers.study import StudyInHand


class Case:
    """One running study, and as many runners in turn as a test needs."""

    def __init__(self, database, spec):
        self.database, self.storages = database, []
        with database.begin() as session:
            self.id = studies.create(session, spec).study.id
            studies.change_state(session, self.id, State.PREPARING, event="preparing")
            studies.change_state(session, self.id, State.RUNNING, event="running")

    def take_over(self) -> StudyInHand:
        with self.database.begin() as session:
            session.execute(update(Group).values(expires_at=func.now() - text("interval '1 second'")))
        with self.database.begin() as session:
            self.lease = leases.claim(session, "one", 60)
        self.storages.append(open_storage(self.database.url, self.lease))
        return self.in_hand(self.id)

    def another(self, spec, *, queued: bool = False) -> str:
        """A second study of the same group."""
        with self.database.begin() as session:
            study = studies.add(session, spec, session.get_one(Study, self.id).group_id)
            if not queued:
                studies.change_state(session, study.id, State.PREPARING, event="preparing")
                studies.change_state(session, study.id, State.RUNNING, event="running")
            return study.id

    def in_hand(self, study_id: str) -> StudyInHand:
        """Of the runner that took over last."""
        return StudyInHand(self.database, self.storages[-1], self.lease, study_id)

    def rows(self) -> list[tuple]:
        with self.database.begin() as session:
            query = select(Trial).where(Trial.study_id == self.id).order_by(Trial.ordinal, Trial.attempt)
            return [(row.ordinal, row.attempt, row.outcome, row.told) for row in session.scalars(query)]

    def running_in_optuna(self) -> list[int]:
        with self.database.begin() as session:
            return running_in_optuna(session, self.id)

    def state(self) -> str:
        with self.database.begin() as session:
            return session.get_one(Study, self.id).state

    def change_state(self, state: State) -> None:
        with self.database.begin() as session:
            studies.change_state(session, self.id, state, event=str(state))


def result_of(study: StudyInHand, attempt) -> TrialResult:
    return simulate(study.spec, attempt.hyperparameters, lambda progress: Decision.CONTINUE)
