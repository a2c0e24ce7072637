"""Settings, the embedded system, and what the API says of itself."""

from collections.abc import Iterator
from pathlib import Path

from mudman.faults import MudmanError
from service import credentials
from service.client import Client, Refused
from service.doctor import Finding, Site, broken
from service.endpoint import FILE, Endpoint
from service.installation import is_held
from service.store.settings import Settings


def settings(found: Settings) -> Iterator[Finding]:
    """Which ones were set, and where; never a value, for one of them holds a password."""
    given = {name: origin for name, origin in found.origins().items() if origin != "default"}
    yield Finding("settings", True, ", ".join(f"{name} ({origin})" for name, origin in given.items()) or "all default")


def checks(site: Site) -> Iterator[Finding]:
    yield embedded(site.settings.state_dir, site.endpoint)
    yield from api(site.api, site.settings)


def embedded(state_dir: Path, found: Endpoint | None) -> Finding:
    held = is_held(state_dir)
    if held is None:
        return Finding("embedded system", None, f"unknown: {state_dir / 'lock'} cannot be read by this user")
    if found is None:
        says = "is being started or stopped" if held else "does not run here; `mudman up` would start it"
        return Finding("embedded system", None, says)
    if not held:
        says = f"{state_dir / FILE} names process {found.pid}, which is gone: it was killed"
        return Finding("embedded system", False, says, f"mudman up (or remove {state_dir / FILE})")
    return Finding("embedded system", True, f"{found.url} (process {found.pid})")


def api(url: str | None, settings: Settings) -> Iterator[Finding]:
    """Its readiness, check by check, and whether it takes this user's token: also of an API on another machine."""
    if url is None:
        yield Finding("API", None, "no address is known; name one with --url or MUDMAN_URL")
        return
    try:
        shown = credentials.find(settings)
    except MudmanError as error:
        yield broken("API token", error)
        return
    try:
        with Client(url, token=shown, timeout=10) as client:
            checks = client.ready()
    except MudmanError as error:
        yield broken("API", error)
        return
    yield Finding("API", True, url)
    for name, says in checks.items():
        ok = says == "ok"
        yield Finding(f"API: {name}", ok, says, None if ok else "see the checks of the machine that it runs on")
    if shown:
        yield token(url, shown)


def token(url: str, shown: str) -> Finding:
    """What is open to everybody says nothing of it."""
    try:
        with Client(url, token=shown, timeout=10) as client:
            client.presets()
    except Refused as error:
        if error.status == 401:
            remedy = "ask an admin for another (`mudman token create`), and keep it: mudman token save"
            return Finding("API token", False, str(error), remedy)
        return Finding("API token", None, f"could not be tried: {error}")
    except MudmanError as error:
        return broken("API token", error)
    return Finding("API token", True, "is taken, or none is asked for")
