"""Liveness and readiness, for supervisors and load balancers."""

from fastapi import APIRouter, Response

from service import examples
from service.declared_problems import problems
from service.routes import Configuration, Store
from service.store import leases
from service.store.database import DatabaseUnavailable
from service.store.migrate import is_current
from service.view import View

router = APIRouter(tags=["health"])

OK = "ok"


class Health(View):
    status: str


class Readiness(View):
    ready: bool
    checks: dict[str, str]
    """``database``, ``migrations``, ``dispatcher``: ``ok``, or what is wrong."""


@router.get(
    "/healthz",
    response_model=Health,
    summary="Liveness",
    responses={200: {"content": {"application/json": {"example": {"status": OK}}}}, **problems()},
)
def healthz():
    """The process answers. Says nothing about the database."""
    return Health(status=OK)


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Readiness",
    responses={
        200: {"content": {"application/json": {"example": examples.READY}}},
        503: {
            "description": "Not ready; the checks say why",
            "model": Readiness,
            "content": {"application/json": {"example": examples.NOT_READY}},
        },
        **problems(),
    },
)
def readyz(store: Store, settings: Configuration, response: Response):
    """Whether a study that is posted now would be stored and worked on."""
    checks = _checks(store, within=settings.dispatcher_lives)
    ready = all(check == OK for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks)


def _checks(store: Store, within: float) -> dict[str, str]:
    unknown = "unknown: no database"
    try:
        with store.begin() as session:
            if not is_current(session):
                migrations = "not this version's tables: run python -m service.store.migrate"
                return {"database": OK, "migrations": migrations, "dispatcher": "unknown: not migrated"}
            seen = leases.any_seen(session, within)
    except DatabaseUnavailable as error:
        return {"database": str(error), "migrations": unknown, "dispatcher": unknown}
    return {"database": OK, "migrations": OK, "dispatcher": OK if seen else f"none seen for {within:g} s: start one"}
