"""In whose name a request acts."""

from contextvars import ContextVar
from dataclasses import dataclass, replace

from service.access.refusals import NotInYourName, NotYours
from service.store.scopes import Scope
from service.store.tokens import Known


@dataclass(frozen=True)
class Caller:
    address: str
    scope: Scope | None = None
    """None: nobody is known, and only what is open to all may be asked for."""
    owner: str | None = None
    """None: access is off, or nobody is known."""
    token_id: str | None = None

    def by(self, token: Known) -> "Caller":
        return replace(self, scope=token.scope, owner=token.owner, token_id=token.id)

    def may_change(self, owner: str) -> bool:
        return self.owner is None or self.scope is Scope.ADMIN or self.owner == owner

    def check_may_change(self, what: str, owner: str) -> None:
        """Raises ``NotYours``."""
        if not self.may_change(owner):
            raise NotYours(what, owner, self.owner)

    def check_may_post(self, owner: str) -> None:
        """Raises ``NotInYourName``."""
        if not self.may_change(owner):
            raise NotInYourName(owner, self.owner)


current: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""Of the request in hand, for pages: each says who is signed in."""
