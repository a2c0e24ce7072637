"""Ray Tune's two questions, answered from the desk: whether to ask Ray for another place, and which to let go.

A trial of Tune's is a place: a process with a trial's cores and cards, which runs one of our trials after the other. So
Tune does once per process what it would otherwise do once per trial, and nothing of it lies between two trials.
"""

from typing import Any

from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from workers.actor import WORD
from workers.desk import Desk
from workers.forgetful import Forgetful
from workers.orders import Word
from workers.overseer import Overseer
from workers.places import AVOID, Places

PATIENCE = 1.0
"""Seconds to wait for an attempt while there is no place; Tune's thread has nothing else to do then."""


class PlaceSearcher(Forgetful, Searcher):
    """Asks for places while more waits on the desk than there are, whatever study of the group it belongs to."""

    def __init__(self, desk: Desk, overseer: Overseer, places: Places):
        super().__init__()
        self._desk, self._overseer, self._places = desk, overseer, places

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Tune never asks again after FINISHED, so it is said only when nothing more can come."""
        first = self._desk.first_waiting(0 if self._overseer.anybody else PATIENCE)
        if self._desk.halted:
            return Searcher.FINISHED
        if first is None or not self._overseer.lacks_places():
            return None
        return {AVOID: sorted(self._places.avoid(first.study_id))}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """The overseer sees to every end."""

    def save(self, checkpoint_path: str) -> None:
        """Postgres is the truth: Tune's own state is never restored."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """As ``save``."""


class PlaceGenerator(Forgetful, SearchGenerator):
    """Tune's own wrapper of a searcher. The search is over whenever the group may have no place: Tune's run then ends
    with its last trial."""

    def __init__(self, searcher: PlaceSearcher, overseer: Overseer):
        super().__init__(searcher)
        self._overseer = overseer

    def next_trial(self) -> Trial | None:
        self._overseer.look_at_share()  # Tune asks again and again within one step while there is none
        return super().next_trial()

    def is_finished(self) -> bool:
        return self._overseer.shut or super().is_finished()


class PlaceStopper(Forgetful, Stopper):
    """Hears every word first (Tune asks it before scheduler and searcher) and lets go of places."""

    def __init__(self, desk: Desk, overseer: Overseer, places: Places):
        self._desk, self._overseer, self._places = desk, overseer, places

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        # Taken out: Tune keeps the last result of every place.
        return self._overseer.hear(trial_id, Word.model_validate_json(result.pop(WORD)))

    def stop_all(self) -> bool:
        return self._desk.halted or self._places.cornered
