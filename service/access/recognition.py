"""From the text of a token to whose it is."""

from service.access.refusals import NotAuthenticated
from service.store import tokens
from service.store.database import Database


def recognise(database: Database, value: str | None) -> tokens.Known:
    """Asks the database each time: what was revoked, or has expired by its clock, is refused at once by every process.

    Raises ``NotAuthenticated``, ``DatabaseUnavailable``.
    """
    if not value:
        raise NotAuthenticated("This needs a token, and there is none.", given=False)
    with database.begin() as session:
        known = tokens.find(session, value)
    if known is None:
        raise NotAuthenticated("The token is not known here.", given=True)
    if known.revoked:
        raise NotAuthenticated(f"The token {known.id} is revoked.", given=True)
    if known.expired:
        raise NotAuthenticated(f"The token {known.id} has expired.", given=True)
    return known
