"""``python -m workers up``: the whole system in the foreground, until Ctrl-C.

One thread and one loop: the kernel ties children to the thread that started them. Postgres, Ray and API start side by
side; whatever dies is started again with growing pauses; everything is stopped in the order of who needs whom.
"""

import contextlib
import datetime
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import httpx

from mudman.faults import MudmanError
from service import endpoint
from service.access.exposure import check_listening
from service.store.settings import Settings
from workers.embedded import instance, log_files, services
from workers.embedded.postgres import Postgres
from workers.embedded.processes import adopt_orphans, descendants, end_descendants, reap, send

_TICK = 0.1
_RESTARTS = 5
"""A child that dies more often than this within ``_WINDOW`` seconds is given up, and the system with it."""
_WINDOW = 60.0
_ROTATION = 60.0
"""Seconds between two looks at how long the logs are."""
_ROOM = 32 * 2**20
"""Bytes without which Postgres is not started again: two segments of its journal."""


class StartFailed(MudmanError):
    """A part of the system does not start or does not stay up; the message ends with its log."""


class _StopAsked(Exception):
    """SIGINT, SIGTERM or SIGHUP."""


class _Part(Protocol):
    """What is kept alive."""

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def words(self) -> str: ...


class Supervisor:
    """``say`` is told, in words, what happens: one line a call."""

    def __init__(self, settings: Settings, say: Callable[[str], None]):
        self.settings = settings
        self.say = say
        self._started = time.monotonic()
        self._signals: list[int] = []
        self._parts: dict[str, _Part] = {}
        self._deaths: dict[str, list[float]] = {}
        self._pause_until: dict[str, float] = {}
        self._children: list[services.Child] = []
        self._postgres: Postgres | None = None
        self._logs: Path | None = None
        self._rotated = self._started

    def run(self) -> None:
        """Start, keep alive until a signal, stop. Raises ``MudmanError`` where the system cannot run."""
        check_listening(self.settings)
        with instance.only_one(self.settings.state_dir), self._signals_noted(), _lifeline() as descriptor:
            adopt_orphans()
            try:
                self._start(descriptor)
                while True:
                    self._tick()
            except _StopAsked:
                self.say("stopping")
            finally:
                self._stop()
            shutil.rmtree(instance.runtime_folder(self.settings.state_dir), ignore_errors=True)
            self.say("everything is stopped")

    # ------------------------------------------------------------------------------------------------ start

    def _start(self, lifeline_descriptor: int) -> None:
        settings = self.settings
        explicit = settings.origins()["port"] != "default"
        port = instance.choose_port(settings.host, settings.port, explicit)
        if port != settings.port and settings.port:
            self.say(f"port {settings.port} is taken, so the API takes {port}")
        runtime = instance.runtime_folder(settings.state_dir)
        plan = services.Plan(settings, port, instance.free_port(), runtime, lifeline_descriptor)
        self._logs = plan.logs
        log_files.rotate(self._logs)
        plan.write_ray_token()
        endpoint.forget(settings.state_dir)

        instance.clear(plan.ray_folder)
        self._keep(plan.ray())
        self._postgres = Postgres(
            settings.state_dir / "postgres", sockets=runtime / "postgres", log=plan.logs / "postgres.log"
        )
        self._postgres.start()
        self._wait(self._postgres.ready, 60, "postgres", self._postgres)
        self._parts["postgres"] = self._postgres
        services.write_secret(plan.database_url_file, self._postgres.url())
        self.say(f"Postgres answers{self._clock()}")
        self._keep(plan.api())
        self._migrate(plan.migration())
        self._wait(plan.ray_is_up, 120, "ray", self._parts["ray"])
        self.say(f"Ray runs on {instance.processors()} processors{self._clock()}")
        self._keep(plan.dispatcher())
        url = f"http://{_reachable(settings.host)}:{port}"
        self._wait(lambda: _is_ready(url), 60, "the API", self._parts["api"])
        endpoint.Endpoint(
            url=url,
            pid=os.getpid(),
            ray_address=plan.ray_address,
            database_url_file=str(plan.database_url_file),
            data_root=str(settings.data_root),
            logs=str(plan.logs),
            started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        ).write(settings.state_dir)
        self.say(f"ready at {url}{self._clock()}; logs in {plan.logs}")
        if settings.access == "tokens":
            self.say("tokens are asked for: `mudman token create --owner NAME --scope admin --save` makes one")

    def _keep(self, child: services.Child) -> None:
        child.start()
        self._children.append(child)
        self._parts[child.name] = child

    def _migrate(self, migration: services.Child) -> None:
        self._children.append(migration)
        migration.start()
        while migration.alive():
            self._tick()
        if migration.process.returncode != 0:
            raise StartFailed(f"the database could not be migrated.\n{migration.words()}\nMore in {migration.log}")

    def _wait(self, condition: Callable[[], bool], seconds: float, name: str, part: _Part) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self._tick()
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} is not ready after {seconds:g} s.\n{part.words()}")

    def _clock(self) -> str:
        return f" ({time.monotonic() - self._started:.1f} s)"

    # ------------------------------------------------------------------------------------------- keep alive

    def _tick(self) -> None:
        if self._signals:
            raise _StopAsked
        for name, part in self._parts.items():
            if not part.alive():
                self._revive(name, part)
        reap(self._processes())
        if self._logs and time.monotonic() - self._rotated > _ROTATION:
            log_files.rotate(self._logs)
            self._rotated = time.monotonic()
        time.sleep(_TICK)

    def _revive(self, name: str, part: _Part) -> None:
        now = time.monotonic()
        if name in self._pause_until:
            if now >= self._pause_until[name] and not self._waits_for_room(part):
                del self._pause_until[name]
                part.start()
                self.say(f"{name} is started again")
            return
        deaths = [moment for moment in self._deaths.get(name, []) if now - moment < _WINDOW] + [now]
        self._deaths[name] = deaths
        if len(deaths) > _RESTARTS:
            raise StartFailed(f"{name} died {len(deaths)} times within {_WINDOW:g} s; its last words:\n{part.words()}")
        self._pause_until[name] = now + 0.25 * 2 ** (len(deaths) - 1)
        self.say(f"{name} died")
        if self._waits_for_room(part):
            self.say(f"{name} is started again once {_ROOM / 1e6:.0f} MB are free for {self.settings.state_dir}")

    def _waits_for_room(self, part: _Part) -> bool:
        """Results wait in the runners meanwhile: started in vain again and again, Postgres would take them down."""
        return part is self._postgres and shutil.disk_usage(self.settings.state_dir).free < _ROOM

    def _processes(self) -> list:
        found = [child.process for child in self._children]
        if self._postgres:
            found.append(self._postgres.process)
        return [process for process in found if process is not None]

    # ------------------------------------------------------------------------------------------------- stop

    def _stop(self) -> None:
        """Dispatcher and its runners, then API and Ray, then Postgres; a second signal cuts the waiting short."""
        endpoint.forget(self.settings.state_dir)
        self._parts.clear()
        self._signals.clear()
        by_name = {child.name: child for child in self._children}
        self._end([by_name[name] for name in ("dispatcher", "migration") if name in by_name])
        others = {child.process.pid for child in self._children if child.alive()}
        if self._postgres and self._postgres.alive():
            others.add(self._postgres.process.pid)
        runners = descendants(os.getpid()) - others - {pid for other in others for pid in descendants(other)}
        send(runners, signal.SIGTERM)  # adopted from a dispatcher that died
        self._end([by_name[name] for name in ("api", "ray") if name in by_name])
        send(runners, signal.SIGKILL)
        if self._postgres:
            self._postgres.stop(timeout=0.5 if self._signals else 3.0)
        if left := end_descendants(grace=0.5, owned=self._processes()):
            self.say(f"these processes could not be stopped: {', '.join(map(str, sorted(left)))}")

    def _end(self, children: list[services.Child]) -> None:
        for child in children:
            child.ask_to_stop()
        started = time.monotonic()
        while any(child.alive() for child in children):
            for child in children:
                if self._signals or time.monotonic() - started > child.stops_within:
                    child.kill()
            reap(self._processes())
            time.sleep(0.02)

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self._signals.append(number)


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe of which only this process holds the writing end: see ``workers.lifeline``."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
