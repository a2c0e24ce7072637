"""The states of a study and the only ways between them: one pure function. The store applies it, the tests walk it."""

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
LIVE = frozenset({State.QUEUED, State.PREPARING, State.RUNNING})
"""A runner works on it, or is to."""


class Action(StrEnum):
    """What is done to a study; also the kind of the event that tells of it."""

    PREPARE = "preparing"
    RUN = "running"
    PAUSE = "paused"
    RESUME = "resumed"
    COMPLETE = "completed"
    FAIL = "failed"
    CANCEL = "cancelled"
    REQUEUE = "requeued"
    """The spec of a failed or cancelled study was posted once more."""
    EXTEND = "extended"
    """It got a larger budget."""
    RETRY = "retried"
    """Trials that ended without counting are to run again."""


_ENDED = dict.fromkeys(sorted(FINISHED), State.QUEUED)

TRANSITIONS: dict[Action, dict[State, State]] = {
    Action.PREPARE: {State.QUEUED: State.PREPARING},
    Action.RUN: {State.PREPARING: State.RUNNING},
    Action.PAUSE: {State.RUNNING: State.PAUSED},
    Action.RESUME: {State.PAUSED: State.RUNNING},
    Action.COMPLETE: {State.RUNNING: State.COMPLETED},
    Action.FAIL: dict.fromkeys((State.PREPARING, State.RUNNING), State.FAILED),
    Action.CANCEL: {state: State.CANCELLED for state in State if not state.finished},
    Action.REQUEUE: dict.fromkeys((State.FAILED, State.CANCELLED), State.QUEUED),
    Action.EXTEND: _ENDED,
    Action.RETRY: _ENDED,
}


ASKED = frozenset(Action) - {Action.PREPARE, Action.RUN, Action.COMPLETE, Action.FAIL}
"""By people; the others are what runners do."""


class RefusedTransition(MudmanError):
    """The study is in a state in which this cannot be done to it."""

    def __init__(self, study_id: str, current: State, action: Action):
        fit = ", ".join(TRANSITIONS[action])
        possible = ", ".join(sorted(other for other in Action if current in TRANSITIONS[other] and other in ASKED))
        super().__init__(
            f"Study {study_id} is {current} and cannot be {action}: only a study that is {fit} can. "
            f"This one can be: {possible}."
        )
        self.study_id, self.current, self.action = study_id, current, action

    @property
    def log_fields(self) -> dict[str, str]:
        return {"study_id": self.study_id}

    def __reduce__(self):
        return RefusedTransition, (self.study_id, self.current, self.action)


def after(study_id: str, current: State, action: Action) -> State:
    """The state that follows. Raises ``RefusedTransition``."""
    following = TRANSITIONS[action].get(current)
    if following is None:
        raise RefusedTransition(study_id, current, action)
    return following
