"""Where a service without tokens may be reached: from this machine alone, and by no name that another could point here.

A page of another site can make its own name resolve to 127.0.0.1 (DNS rebinding): the browser then takes what listens
there for that site. Such requests carry the site's name as their ``Host``.
"""

import ipaddress
import re

from service.access.refusals import NotLocal, WrongHost
from service.loopback import is_loopback
from service.store.settings import Settings, SettingsError

_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d*)?", re.ASCII)


class AccessIsOff(SettingsError):
    """The service would listen where others reach it, and would ask nobody who they are."""


def check_listening(settings: Settings) -> None:
    """Raises ``AccessIsOff``."""
    if settings.access == "off" and not is_loopback(settings.host):
        raise AccessIsOff(
            f"the API would listen on {settings.host}, where other machines reach it, without asking for tokens. "
            "Remedy: set MUDMAN_ACCESS=tokens and make a token with `mudman token create` (docs/access.md), or listen "
            "on 127.0.0.1"
        )


def check_host(settings: Settings, host: str | None, server: tuple[str, int | None] | None) -> None:
    """``host``: as the request names it; ``server``: where it arrived. Raises ``WrongHost``, ``NotLocal``."""
    name = _name(host)
    known = {one.lower() for one in settings.hosts}
    if settings.access == "off" and server and _reaches_others(server[0]):
        raise NotLocal(
            "This service asks nobody for tokens, so it answers over loopback only. Set MUDMAN_ACCESS=tokens to let "
            "other machines in."
        )
    if name in known or (name and is_loopback(name)) or (name and settings.access == "tokens" and not known):
        return
    raise WrongHost(
        f"The request is for {name[:100]!r}, and this service does not go by that name. Use the address that it was "
        'started with, or add the name to MUDMAN_HOSTS, a JSON list such as ["sweeps.example.org"].'
    )


def _reaches_others(address: str) -> bool:
    """What is no IP address is a socket in the file system, or a client within this process."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not is_loopback(address)


def _name(host: str | None) -> str:
    """Without its port; empty for none, and for what is no name."""
    found = _HOST.fullmatch(host or "")
    return found[1].lower() if found else ""
