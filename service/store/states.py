"""The states of a study and the only ways between them. Pure: the store applies it, the tests enumerate it."""

from enum import StrEnum

from mudman.faults import MudmanError


class State(StrEnum):
    QUEUED = "queued"
    """Waits for a dispatcher."""
    PREPARING = "preparing"
    """Model and corpora are fetched, checked and measured."""
    RUNNING = "running"
    """Trials run. A study whose lease expired stays running and is claimed again."""
    PAUSED = "paused"
    COMPLETED = "completed"
    """The asked number of trials counts."""
    FAILED = "failed"
    """The stored problem document says why."""
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        return self in FINISHED


FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PREPARING, State.CANCELLED}),
    State.PREPARING: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: frozenset({State.PAUSED, State.COMPLETED, State.FAILED, State.CANCELLED}),
    State.PAUSED: frozenset({State.RUNNING, State.CANCELLED}),
    # Run again: the same spec was posted once more.
    State.COMPLETED: frozenset({State.QUEUED}),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}


class RefusedTransition(MudmanError):
    """The study is in a state from which the asked one cannot be reached."""

    def __init__(self, study_id: str, current: State, target: State):
        allowed = ", ".join(sorted(TRANSITIONS[current]))
        super().__init__(
            f"Study {study_id} is {current} and cannot become {target}. From here it can become: {allowed}."
        )
        self.study_id, self.current, self.target = study_id, current, target

    def __reduce__(self):
        return RefusedTransition, (self.study_id, self.current, self.target)


def check(study_id: str, current: State, target: State) -> None:
    """Raises ``RefusedTransition`` unless a study may go from ``current`` to ``target``."""
    if target not in TRANSITIONS[current]:
        raise RefusedTransition(study_id, current, target)
