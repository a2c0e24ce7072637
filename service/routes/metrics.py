"""Numbers for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from service.declared_problems import problems

router = APIRouter(tags=["health"])

_EXAMPLE = """# HELP mudman_database_up Whether the database answers and has this version's tables
# TYPE mudman_database_up gauge
mudman_database_up 1.0
# HELP mudman_studies Studies
# TYPE mudman_studies gauge
mudman_studies{state="queued"} 2.0
mudman_studies{state="running"} 3.0
"""


class Exposition(Response):
    media_type = CONTENT_TYPE_PLAIN_0_0_4


@router.get(
    "/metrics",
    response_class=Exposition,
    summary="Metrics",
    responses={200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {"example": _EXAMPLE}}}, **problems()},
)
def metrics(request: Request):
    """Studies, queue, leases, trials, nodes, and this process, for Prometheus. Answers also while the database is away:
    `mudman_database_up` is 0 then."""
    return Exposition(generate_latest(request.app.state.metrics.registry))
