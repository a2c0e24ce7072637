"""Ray's head: does it answer, and does it take this machine's token.

Asked by Ray's own command, in a process of its own: the service imports no Ray."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.doctor import Finding, Site
from service.installation import embedded
from service.loopback import is_loopback

PATIENCE = 10.0
"""Seconds; one that listens answers within two, and Ray itself would go on trying for a minute."""


def checks(site: Site) -> Iterator[Finding]:
    running = embedded(site.settings)
    if importlib.util.find_spec("ray") is None:
        return
    if site.settings.ray_address != "auto":
        yield head(site.settings.ray_address, {})
    elif running and running.ray_address:
        yield head(running.ray_address, with_token(site.settings.state_dir / "ray-token"))


def with_token(path: Path) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def head(address: str, told: Mapping[str, str], patience: float = PATIENCE) -> Finding:
    """``told``: variables of Ray's, beside those of this process."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    environment = {**os.environ, **told}
    if is_loopback(address.rpartition(":")[0]):
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # otherwise Ray asks this machine's other address
    try:
        asked = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience
        )
    except subprocess.TimeoutExpired:
        remedy = "is the head up, is that its address (MUDMAN_RAY_ADDRESS), and may this machine reach it?"
        return Finding("Ray's head", False, f"nothing answers at {address} within {patience:g} s", remedy)
    if asked.returncode == 0:
        return Finding("Ray's head", True, address)
    words = asked.stderr.strip().splitlines() or [f"exit status {asked.returncode}"]
    if "InvalidAuthToken" in words[-1]:
        remedy = "give this machine the token that the head has: the file that RAY_AUTH_TOKEN_PATH names"
        return Finding("Ray's head", False, f"{address} does not take this machine's token", remedy)
    return Finding("Ray's head", False, f"{address}: {words[-1][:300]}", "see the head's log")
