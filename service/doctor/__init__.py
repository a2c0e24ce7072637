"""Checks of an installation, each a function that looks at one thing and says what is wrong and what to do."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mudman.faults import MudmanError
from service.endpoint import Endpoint
from service.store.settings import Settings


@dataclass(frozen=True)
class Finding:
    check: str
    ok: bool | None
    """None: could not be looked at, or does not apply here."""
    found: str
    remedy: str | None = None
    """What to do; of what is broken."""


@dataclass(frozen=True)
class Site:
    """What is examined."""

    settings: Settings
    endpoint: Endpoint | None
    """As the state folder has it, stale or not."""
    api: str | None
    """Address that was asked for, or that of the embedded system."""
    database_url: str | None


Check = Callable[[Site], Iterator[Finding]]


def examine(state_dir: Path | None = None, url: str | None = None) -> list[Finding]:
    """Every check in order; a broken part keeps no other from being looked at."""
    from service import endpoint
    from service.doctor import database, machine, ray_head, software, sweeps, system
    from service.installation import database_url, embedded

    findings = [*software.checks()]
    try:
        settings = Settings(state_dir=state_dir)
    except MudmanError as error:
        return [*findings, broken("settings", error)]
    where, running = endpoint.read(settings.state_dir), embedded(settings)
    api = url or os.environ.get("MUDMAN_URL") or (running.url if running else None)
    findings += system.settings(settings)
    address = None
    try:
        address = database_url(settings)
    except MudmanError as error:
        configured = settings.database_url is not None or settings.database_url_file is not None
        findings.append(broken("database", error) if configured else Finding("database", None, "none is configured"))
    site = Site(settings, where, api, address)
    for check in (system.checks, machine.checks, ray_head.checks, database.checks, sweeps.checks):
        findings += check(site)
    return findings


def broken(check: str, error: MudmanError) -> Finding:
    """From an error whose message ends with the remedy."""
    found, _, remedy = str(error).partition(" Remedy: ")
    return Finding(check, False, found, remedy or None)
