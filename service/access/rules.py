"""Which scope a request needs. The default is strict, so that a route that is added is not forgotten: whatever changes
something needs ``submit``, and whatever else there is needs ``read``."""

from service.store.scopes import Scope

SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/healthz", "/readyz", "/ui/sign-in", "/ui/sign-out", "/favicon.ico")
"""Supervisors and load balancers have no token, and neither has who signs in."""
METRICS = "/metrics"
PROBED = ("/healthz", "/readyz", METRICS)
"""What machines ask by the address of one process, which is in nobody's list of names."""
_OPEN_BELOW = "/ui/static/"
_ADMIN = ("tokens", "audit")


def needed(method: str, path: str) -> Scope | None:
    """None: open to everybody."""
    if path in _OPEN or path.startswith(_OPEN_BELOW):
        return None
    if path.strip("/").partition("/")[0] in _ADMIN:
        return Scope.ADMIN
    return Scope.READ if method in SAFE else Scope.SUBMIT
