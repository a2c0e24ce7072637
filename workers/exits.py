"""How a runner's process ends, for the dispatcher that spawned it. 0: it gave its lease back."""

from mudman.faults import MudmanError

LEASE_LOST = 75
"""Exit status (EX_TEMPFAIL) of a runner that lost its lease."""
NO_RAY = 69
"""Exit status (EX_UNAVAILABLE) of a runner that found no Ray: nothing was wrong with its studies."""


class RayUnavailable(MudmanError):
    """No Ray cluster answers at the configured address."""
