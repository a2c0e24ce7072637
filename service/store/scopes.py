"""What a token may do. Each scope has all that the ones before it have."""

from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    """Look at everything but tokens and audit events."""
    SUBMIT = "submit"
    """Make studies and comparisons, and change one's own."""
    ADMIN = "admin"
    """Change everybody's; tokens and audit events."""

    def covers(self, needed: "Scope") -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(needed)
