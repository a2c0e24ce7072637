"""``/cluster``: nodes, who runs what on them, and why something waits."""

from fastapi import APIRouter

from service import cluster_examples
from service import cluster_views as views
from service.cluster_views import ClusterView
from service.declared_problems import problems
from service.routes import Configuration, Store
from service.store import cluster, leases, nodes

router = APIRouter(tags=["cluster"])


@router.get(
    "/cluster",
    response_model=ClusterView,
    summary="The cluster",
    responses={200: {"content": {"application/json": {"example": cluster_examples.CLUSTER}}}, **problems(503)},
)
def show(store: Store, settings: Configuration):
    """Nodes with what is used of them, every trial that runs, what waits and for what, and each owner's standing."""
    with store.begin() as session:
        ran = cluster.running(session)
        dispatchers = leases.dispatchers(session, settings.dispatcher_lives)
        waiting, total = cluster.waiting(session)
        return ClusterView(
            nodes=views.node_views(nodes.known(session), nodes.quarantined(session), ran),
            running=[views.running_view(one) for one in ran],
            waiting=[
                views.waiting_view(position, study, group, dispatchers)
                for position, (study, group) in enumerate(waiting, 1)
            ],
            waiting_total=total,
            owners=[views.owner_view(row, age, ran) for row, age in cluster.owners(session)],
            dispatchers=[views.dispatcher_view(row) for row in dispatchers],
        )
