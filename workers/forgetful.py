"""What Tune is given of ours keeps nothing of itself in Tune's pickles and copies."""

from typing import Any


class Forgetful:
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict) -> "Forgetful":
        return self
