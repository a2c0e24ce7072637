"""Settings, the embedded system, and what the API says of itself."""

from collections.abc import Iterator
from pathlib import Path

from mudman.faults import MudmanError
from service.client import Client
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
    yield from api(site.api)


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


def api(url: str | None) -> Iterator[Finding]:
    """Its readiness, check by check: also of an API on another machine."""
    if url is None:
        yield Finding("API", None, "no address is known; name one with --url or MUDMAN_URL")
        return
    try:
        with Client(url, timeout=10) as client:
            checks = client.ready()
    except MudmanError as error:
        yield broken("API", error)
        return
    yield Finding("API", True, url)
    for name, says in checks.items():
        ok = says == "ok"
        yield Finding(f"API: {name}", ok, says, None if ok else "see the checks of the machine that it runs on")
