"""Ray Tune's two questions, answered from the desk: what to run next, and what to stop."""

from typing import Any

from ray.tune import Stopper
from ray.tune.search import Searcher

from workers.actor import ORDER, WORD
from workers.book import Attempt, Book
from workers.desk import Desk
from workers.orders import Order, Word, versions

PATIENCE = 1.0
"""Seconds to wait for an attempt while no trial lives; Tune's thread has nothing else to do then."""


class _Forgetful:
    """Tune pickles and copies what it is given; there is nothing in us that it may keep."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict) -> "_Forgetful":
        return self


class DeskSearcher(_Forgetful, Searcher):
    """Gives Tune the attempts that the ledger has put on the desk, whatever study of the group they belong to."""

    def __init__(self, desk: Desk, books: dict[str, Book]):
        super().__init__()
        self._desk, self._books = desk, books

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune never asks again after FINISHED, so it is said only when nothing more can come."""
        attempt = self._desk.take(trial_id, PATIENCE)
        if attempt is not None:
            return {ORDER: self._order(attempt)}
        return Searcher.FINISHED if self._desk.halted else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial that handed in its result is known already; any other one vanished."""
        self._desk.vanish(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Postgres is the truth: Tune's own state is never restored."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """As ``save``."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a runner takes over from Postgres, never from Tune's files")

    def _order(self, attempt: Attempt) -> str:
        return Order(
            study_id=attempt.study_id,
            ordinal=attempt.ordinal,
            attempt=attempt.attempt,
            spec=self._books[attempt.study_id].spec,
            hyperparameters=attempt.hyperparameters,
            versions=versions(),
        ).model_dump_json()


class DeskStopper(_Forgetful, Stopper):
    """Hears every report first (Tune asks it before scheduler and searcher) and stops what is to be stopped."""

    def __init__(self, desk: Desk):
        self._desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._desk.hear(trial_id, Word.model_validate_json(result[WORD]))

    def stop_all(self) -> bool:
        return self._desk.halted
