"""Where the embedded system of a state folder listens: ``endpoint.json``, by its supervisor for its clients."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "endpoint.json"


@dataclass(frozen=True)
class Endpoint:
    url: str
    """Base address of the API."""
    pid: int
    """Process of the supervisor: SIGTERM to it stops the whole system."""
    ray_address: str
    database_url_file: str
    """File with the database URL, for its owner only."""
    data_root: str
    logs: str
    started_at: str
    """ISO 8601, UTC."""

    def write(self, state_dir: Path) -> None:
        partial = state_dir / f"{FILE}.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
        os.replace(partial, state_dir / FILE)


def read(state_dir: Path) -> Endpoint | None:
    """The endpoint last written there, or ``None``. Its system may have been killed since: ask whether it answers."""
    try:
        return Endpoint(**json.loads((state_dir / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget(state_dir: Path) -> None:
    (state_dir / FILE).unlink(missing_ok=True)
