"""How a runner's process ends, for the dispatcher that spawned it. 0: it gave its lease back."""

from mudman.faults import MudmanError

RAY_ENDED = 1
"""Exit status that Ray gives its driver when the cluster's head is gone for too long. No runner ends with it itself."""
LEASE_LOST = 75
"""Exit status (EX_TEMPFAIL) of a runner that lost its lease."""
NO_RAY = 69
"""Exit status (EX_UNAVAILABLE) of a runner that found no Ray: nothing was wrong with its studies."""
FAILED = 70
"""Exit status (EX_SOFTWARE) of a runner that failed."""


class RayUnavailable(MudmanError):
    """No Ray cluster answers at the configured address."""
