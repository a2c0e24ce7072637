"""Bundles of what the store holds."""

from typing import BinaryIO

from sqlalchemy.orm import Session

from mudman import presets
from service.evidence.bundle import Bundle, folder_of
from service.store import exports, repeating, studies
from service.store.comparisons import compared
from service.store.database import Database
from service.store.tables import Study


def write_study(store: Database, study_id: str, file: BinaryIO, seed: int) -> None:
    """As it stands at one moment. Raises ``UnknownStudy``."""
    with store.begin(snapshot=True) as session:
        study = studies.get(session, study_id)
        bundle = Bundle(file, seed=seed)
        _add(bundle, session, study, "")
    bundle.finish_study()


def write_comparison(store: Database, comparison_id: str, reference: str | None, file: BinaryIO, seed: int) -> None:
    """All its studies as they stand at one moment. Raises ``UnknownComparison``, ``UnknownVariant``."""
    with store.begin(snapshot=True) as session:
        comparison, rows, main = compared(session, comparison_id, reference)
        bundle = Bundle(file, seed=seed)
        for study in rows:
            _add(bundle, session, study, folder_of(study.id))
    bundle.finish_comparison(comparison, main, presets.published(comparison.preset))


def _add(bundle: Bundle, session: Session, study: Study, folder: str) -> None:
    again = repeating.newest(session, study.id, keeping=False)
    confirming = again and (again, exports.whole(session, again.id))
    bundle.study(study, exports.whole(session, study.id), confirming, folder)
