"""Numbers for Prometheus."""

from fastapi import APIRouter, Request

from service import exposition
from service.declared_problems import problems
from service.exposition import Exposition

router = APIRouter(tags=["health"])

_EXAMPLE = """# HELP mudman_database_up Whether the database answers
# TYPE mudman_database_up gauge
mudman_database_up 1.0
# HELP mudman_database_current Whether the database has this version's tables
# TYPE mudman_database_current gauge
mudman_database_current 1.0
# HELP mudman_studies Studies
# TYPE mudman_studies gauge
mudman_studies{state="queued"} 2.0
mudman_studies{state="running"} 3.0
"""


@router.get(
    "/metrics",
    response_class=Exposition,
    summary="Metrics",
    responses={200: {"content": {Exposition.media_type: {"example": _EXAMPLE}}}, **problems()},
)
def metrics(request: Request):
    """Studies, queue, leases, trials, nodes, and this process, for Prometheus. Answers also while the database is away:
    `mudman_database_up` is 0 then. Where tokens are asked for, that alone is said, as no token can be looked up."""
    return exposition.of_registry(request.app.state.metrics.registry)
