"""Views of what the store holds."""

from sqlalchemy.orm import Session

from service.store import standing
from service.store.events import UnknownStudy
from service.store.tables import Group, Study
from service.views import StudyView, study_view


def view_of(session: Session, study: Study) -> StudyView:
    """Raises ``UnknownStudy`` where it was deleted meanwhile."""
    group = session.get(Group, study.group_id)
    if group is None:
        raise UnknownStudy(study.id)
    return study_view(study, group, standing.progress(session, study, group.max_live))
