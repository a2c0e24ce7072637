"""The API's application factory, for ``python -m service`` or any ASGI server."""

from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from fastapi.staticfiles import StaticFiles

from service.access import ownership
from service.access.gate import Gate
from service.access.limits import Limits
from service.dashboard import Dashboard
from service.listening import Listener
from service.metrics import Metrics
from service.openapi import complete
from service.problems import handle_errors
from service.request_log import RequestLog
from service.routes import (
    actions,
    audit,
    catalogue,
    checkpoints,
    cluster,
    comparisons,
    events,
    figures,
    health,
    metrics,
    presets,
    repeats,
    statistics,
    studies,
    tokens,
    trials,
)
from service.store.database import Database
from service.store.settings import Settings
from service.web import new, pages, signing_in
from service.web.browser_rules import BrowserRules

DESCRIPTION = """Hyper-parameter searches for unlearning that lasts: post a study, watch it, take the best; or post a
comparison of several methods, and take its table.

Every error is a problem document (RFC 9457) that names each wrong field and the remedy."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Stateless; starts also while Postgres is away. Raises ``SettingsError`` where no database is configured."""
    settings = settings or Settings()
    database = Database(settings.read_database_url(), pool_size=10, application="mudman-api", patience=4)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        app.state.listener.start()
        yield
        await app.state.listener.stop()
        app.state.dashboard.close()
        app.state.database.close()

    app = FastAPI(
        title="mudman",
        version=version("mudman"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # These pages load their scripts from a third party; the machines that run this may have no way out.
        docs_url=None,
        redoc_url=None,
    )
    app.state.database, app.state.settings = database, settings
    app.state.listener = Listener(database.url)
    app.state.metrics = Metrics(database, settings.dispatcher_lives)
    app.state.limits = Limits(settings)
    app.add_middleware(Gate, settings=settings, limits=app.state.limits)
    app.add_middleware(BrowserRules)
    app.add_middleware(RequestLog, observe=app.state.metrics.observe)
    app.state.routers = [
        module.router
        for module in (
            health,
            metrics,
            presets,
            studies,
            actions,
            repeats,
            checkpoints,
            events,
            trials,
            statistics,
            comparisons,
            figures,
            cluster,
            catalogue,
            tokens,
            audit,
            signing_in,
            pages,
            new,
        )
    ]
    for router in app.state.routers:
        app.include_router(router, dependencies=[Depends(ownership.check)])
    app.state.metrics.expect(route.path_format for router in app.state.routers for route in router.routes)
    app.mount("/ui/static", StaticFiles(packages=[("service.web", "static")]))
    app.state.dashboard = Dashboard(database, settings.dashboard_trials)
    app.state.dashboard.mount(app)
    handle_errors(app)
    return complete(app)
