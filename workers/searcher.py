"""Ray Tune's two questions, answered from the desk: what to run next, and what to stop."""

from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from workers.actor import ORDER, WORD
from workers.book import Attempt, Book
from workers.desk import Desk
from workers.forgetful import Forgetful
from workers.orders import Order, Word, versions
from workers.overseer import Overseer
from workers.places import AVOID, Places

PATIENCE = 1.0
"""Seconds to wait for an attempt while no trial lives; Tune's thread has nothing else to do then."""


class DeskSearcher(Forgetful, Searcher):
    """Gives Tune the attempts that the ledger has put on the desk, whatever study of the group they belong to."""

    def __init__(self, desk: Desk, books: dict[str, Book], places: Places):
        super().__init__()
        self._desk, self._books, self._places = desk, books, places

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune never asks again after FINISHED, so it is said only when nothing more can come."""
        attempt = self._desk.take(trial_id, PATIENCE)
        if attempt is not None:
            return {ORDER: self._order(attempt), AVOID: sorted(self._places.avoid(attempt.study_id))}
        return Searcher.FINISHED if self._desk.halted else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The overseer sees to every end."""

    def save(self, checkpoint_path: str) -> None:
        """Postgres is the truth: Tune's own state is never restored."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """As ``save``."""

    def _order(self, attempt: Attempt) -> str:
        return Order(
            study_id=attempt.study_id,
            ordinal=attempt.ordinal,
            attempt=attempt.attempt,
            spec=self._books[attempt.study_id].spec,
            hyperparameters=attempt.hyperparameters,
            cuts=attempt.cuts,
            versions=versions(),
        ).model_dump_json()


class DeskGenerator(Forgetful, SearchGenerator):
    """Tune's own wrapper of a searcher, and what Tune asks whether it may let processes go.

    Tune keeps one process that has no trial, and with it the cores and cards that it holds, until the search is over.
    So the search is over whenever the group runs as much as its share: others need what it holds. Where that is
    nothing at all, Tune's run ends.
    """

    def __init__(self, searcher: DeskSearcher, overseer: Overseer):
        super().__init__(searcher)
        self._overseer = overseer

    def next_trial(self) -> Trial | None:
        self._overseer.look_at_share()  # Tune asks again and again within one step while there is none
        return super().next_trial()

    def is_finished(self) -> bool:
        return self._overseer.sated or super().is_finished()


class DeskStopper(Forgetful, Stopper):
    """Hears every report first (Tune asks it before scheduler and searcher) and stops what is to be stopped."""

    def __init__(self, desk: Desk, overseer: Overseer, places: Places):
        self._desk, self._overseer, self._places = desk, overseer, places

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        # Taken out: Tune keeps the last result of every trial until its run ends.
        return self._overseer.hear(trial_id, Word.model_validate_json(result.pop(WORD)))

    def stop_all(self) -> bool:
        return self._desk.halted or self._places.cornered
