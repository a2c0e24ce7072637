"""All pages of the reference by file name."""

from service.reference.api import api
from service.reference.commands import commands
from service.reference.spec import spec


def pages() -> dict[str, str]:
    return {"spec.md": spec(), "api.md": api(), "commands.md": commands()}
