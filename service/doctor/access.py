"""Who may reach the API, and tokens that end soon."""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from service.access.exposure import AccessIsOff, check_listening
from service.doctor import Finding, broken
from service.store.settings import Settings
from service.store.tables import SCHEMA

SOON = 14
"""Days."""


def checks(session: Session, settings: Settings) -> Iterator[Finding]:
    yield access(settings)
    yield tokens(session, settings)


def access(settings: Settings) -> Finding:
    try:
        check_listening(settings)
    except AccessIsOff as error:
        return broken("access", error)
    asked = {"tokens": "each request needs a token", "off": f"no tokens, on {settings.host} alone"}
    return Finding("access", True, asked[settings.access])


def tokens(session: Session, settings: Settings) -> Finding:
    good = session.execute(
        text(
            f"""
            select id, owner, scope, expires_at < now() + make_interval(days => :soon)
                and expires_at - created_at > make_interval(days => 2 * :soon) as soon
            from {SCHEMA}.token where revoked_at is null and expires_at > now() order by expires_at
            """
        ),
        {"soon": SOON},
    ).all()
    if settings.access == "tokens" and not any(one.scope == "admin" for one in good):
        remedy = "mudman token create --owner NAME --scope admin"
        return Finding("tokens", False, "none of scope admin is good", remedy)
    ending = [f"{one.id} of {one.owner}" for one in good if one.soon]
    return Finding("tokens", True, f"{len(good)} are good" + (f"; end soon: {', '.join(ending)}" if ending else ""))
