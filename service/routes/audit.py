"""``/audit``: who changed what, and who was refused; for admins."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service import access_examples as examples
from service import access_views as views
from service.declared_problems import problems
from service.routes import Store, Text
from service.store import audit

router = APIRouter(prefix="/audit", tags=["access"])


class AuditFilters(BaseModel):
    """Which events a list shows; all conditions hold at once."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    owner: Text | None = None
    token_id: Text | None = None
    status: int | None = Field(None, ge=100, le=599)
    limit: int = Field(50, ge=1, le=500)
    """Items of a page."""
    before: int | None = Field(None, ge=1, lt=2**63)
    """Only events older than this one, by `id`."""


@router.get(
    "",
    response_model=views.AuditPage,
    summary="Audit events",
    responses={200: {"content": {"application/json": {"example": examples.AUDIT_PAGE}}}, **problems(422, 503)},
)
def list_events(store: Store, filters: Annotated[AuditFilters, Query()]):
    """Every change, and every refusal for want of a good token, a scope or ownership; newest first. Written before the
    change is answered."""
    wanted = {name: getattr(filters, name) for name in ("owner", "token_id", "status")}
    given = {name: value for name, value in wanted.items() if value is not None}
    with store.begin() as session:
        rows, following = audit.page(session, given, filters.limit, filters.before)
    return views.AuditPage(items=[views.audit_event_view(row) for row in rows], next=following)
