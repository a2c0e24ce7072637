"""Why somebody is turned away."""

from mudman.faults import MudmanError
from service.store.scopes import Scope


class NotAuthenticated(MudmanError):
    """No token, or one that is not good."""

    def __init__(self, reason: str, given: bool):
        super().__init__(
            f"{reason} Send Authorization: Bearer TOKEN (the command line: MUDMAN_TOKEN, or `mudman token save`; "
            "a browser: /ui/sign-in). Whoever runs the service makes one with `mudman token create`."
        )
        self.reason, self.given = reason, given

    def __reduce__(self):
        return NotAuthenticated, (self.reason, self.given)


class InsufficientScope(MudmanError):
    """The token's scope does not reach that far."""

    def __init__(self, has: Scope, needed: Scope):
        super().__init__(
            f"This needs a token of scope {needed}, and yours has {has}. Ask an admin for one "
            f"(`mudman token create --scope {needed}`)."
        )
        self.has, self.needed = has, needed

    def __reduce__(self):
        return InsufficientScope, (self.has, self.needed)


class NotYours(MudmanError):
    """Only its owner, or an admin, may change it."""

    def __init__(self, what: str, owner: str, caller: str):
        super().__init__(
            f"{what} belongs to {owner!r}, and this token acts for {caller!r}. Only the owner and admins change it; "
            "everybody may read it."
        )
        self.what, self.owner, self.caller = what, owner, caller

    def __reduce__(self):
        return NotYours, (self.what, self.owner, self.caller)


class NotInYourName(MudmanError):
    """A study or comparison that names another owner than the token's."""

    def __init__(self, named: str, caller: str):
        super().__init__(
            f"This token acts for {caller!r}, and the spec names owner {named!r}. Leave owner out, or ask an admin to "
            "post it."
        )
        self.named, self.caller = named, caller

    def __reduce__(self):
        return NotInYourName, (self.named, self.caller)


class CrossSite(MudmanError):
    """A browser asks for a change, and it is not known to come from a page of ours."""


class WrongHost(MudmanError):
    """The request names another host than this service answers for."""


class NotLocal(MudmanError):
    """Access is off, and the request did not come over loopback."""


class TooManyRequests(MudmanError):
    """Over a limit; ``seconds``: until it is worth trying again."""

    def __init__(self, message: str, seconds: float):
        super().__init__(message)
        self.message, self.seconds = message, seconds

    def __reduce__(self):
        return TooManyRequests, (self.message, self.seconds)
