"""The live stream of a study, over a real server: what comes, when, and from where it goes on."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from rich.console import Console
from sqlalchemy import func, select, text
from test_api_trials import finish, result
from test_cli_comparisons import address  # noqa: F401 - fixture

from mudman.results import Outcome
from service import live, server_sent
from service.cli import watching
from service.client import Client
from service.store import events, studies
from service.store.states import Action
from service.store.tables import Trial

WITHIN = 10.0
CURVE = {"passes": [0, 30], "forget_loss": [2.0, None], "retain_loss": [3.0, 3.1]}


class Stream:
    """One reader; ``until`` fails where the message does not come in time."""

    def __init__(self, url: str, study_id: str, headers: dict | None = None, after: int = 0):
        self._http = httpx.Client(base_url=url, timeout=WITHIN)
        asked = self._http.stream(
            "GET",
            f"/studies/{study_id}/events",
            params={"after": after},
            headers={"Accept": "text/event-stream", **(headers or {})},
        )
        self._answer = asked
        self.answer = asked.__enter__()
        self._messages = server_sent.messages(self.answer.iter_lines())

    def until(self, wanted: str, condition=lambda data: True) -> tuple[list[tuple], dict]:
        """Everything up to the first such message, and its data."""
        seen, deadline = [], time.monotonic() + WITHIN
        for name, data in self._messages:
            seen.append((name, data))
            if name == wanted and condition(data):
                return seen, data
            assert time.monotonic() < deadline, seen
        raise AssertionError(f"the stream ended: {seen}")

    def rest(self) -> list[tuple]:
        return list(self._messages)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception) -> None:
        self._answer.__exit__(None, None, None)
        self._http.close()


def create(api, name: str) -> str:
    return api.post("/studies", json={"preset": "quickstart", "overrides": {"name": name}}).json()["id"]


def start(database, study_id: str, ordinal: int, progress: dict | None) -> None:
    """A trial runs, and has come so far."""
    with database.begin() as session:
        trial = session.get(Trial, (study_id, ordinal, 1))
        if trial is None:
            trial = Trial(study_id=study_id, ordinal=ordinal, attempt=1, epoch=1, hyperparameters={})
            trial.started_at = session.scalar(select(func.now()))
            session.add(trial)
        trial.progress = progress


def append(database, study_id: str, kind: str, data: dict) -> int:
    with database.begin() as session:
        return events.append(session, study_id, kind, data)


def test_what_happened_comes_first_and_what_happens_within_a_moment(api, address, database):  # noqa: F811
    study = create(api, "heard")
    with Stream(address, study) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-cache"
        seen, standing = stream.until("standing")
        assert [(name, data["sequence"], data["kind"]) for name, data in seen if name == "event"] == [
            ("event", 1, "created")
        ]
        assert (standing["state"], standing["progress"]["trials"]) == ("queued", 0)
        time.sleep(0.3)  # it waits now
        started = time.monotonic()
        sequence = append(database, study, "trial_finished", {"ordinal": 0, "outcome": "valid"})
        _, event = stream.until("event")
        heard = time.monotonic() - started
    assert (event["sequence"], event["kind"]) == (sequence, "trial_finished")
    assert heard < live.HEARTBEAT - 1, "nothing runs: it comes because it was heard of, not at the next look"


def test_curves_of_running_trials_come_as_they_grow(api, address, database):  # noqa: F811
    study = create(api, "curved")
    start(database, study, 0, None)
    with Stream(address, study) as stream:
        _, standing = stream.until("standing")
        assert standing["progress"]["running"] == 1
        start(database, study, 0, {"phase": "unlearn", "passes": 30, "of": 100, "unlearning": CURVE, "relearning": {}})
        _, curves = stream.until("curves")
        assert (curves["ordinal"], curves["passes"], curves["unlearning"]) == (0, 30, CURVE)
        longer = {name: [*values, 40] for name, values in CURVE.items()}
        start(database, study, 0, {"phase": "unlearn", "passes": 40, "of": 100, "unlearning": longer})
        _, curves = stream.until("curves")
        assert curves["unlearning"] == longer
        with database.begin() as session:
            session.get_one(Trial, (study, 0, 1)).outcome = Outcome.VALID
        _, standing = stream.until("standing", lambda data: data["progress"]["running"] == 0)
        assert standing["progress"]["live"] == []


@pytest.mark.parametrize("how", ["header", "parameter"])
def test_goes_on_after_what_was_seen(api, address, database, how: str):  # noqa: F811
    study = create(api, f"resumed by {how}")
    for number in range(450):  # more than one reading
        append(database, study, "trial_started", {"ordinal": number})
    with Stream(address, study) as stream:
        seen, _ = stream.until("standing")
    assert [data["sequence"] for name, data in seen if name == "event"] == list(range(1, 452))
    given = {"headers": {"Last-Event-ID": "449"}} if how == "header" else {"after": 449}
    with Stream(address, study, **given) as stream:
        seen, _ = stream.until("standing")
    assert [data["sequence"] for name, data in seen if name == "event"] == [450, 451]


def test_says_that_it_is_alive(api, address, monkeypatch):  # noqa: F811
    monkeypatch.setattr("service.live.HEARTBEAT", 0.5)
    study = create(api, "quiet")
    with Stream(address, study) as stream:
        stream.until("standing")
        started = time.monotonic()
        stream.until("alive")
        stream.until("alive")
        assert time.monotonic() - started < 4


def test_ends_with_the_study(api, address, database):  # noqa: F811
    study = create(api, "ended")
    with Stream(address, study) as stream:
        stream.until("standing")
        with database.begin() as session:
            studies.change_state(session, study, Action.CANCEL)
        stream.until("standing", lambda data: data["state"] == "cancelled")
        assert api.delete(f"/studies/{study}").status_code == 204
        assert [name for name, _ in stream.rest() if name != "alive"] == ["deleted"]


def test_events_come_also_while_nothing_is_heard(api, address, database):  # noqa: F811
    """The connection that hears is cut: streams look by themselves, and it is made again."""
    study = create(api, "deaf")
    with Stream(address, study) as stream:
        stream.until("standing")
        with database.begin() as session:
            cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = :name"
            assert session.scalar(text(f"{cut} and datname = current_database()"), {"name": "mudman-listen"}) == 2
        append(database, study, "claimed", {})
        stream.until("event", lambda data: data["kind"] == "claimed")


def test_a_wrong_place_is_refused(api):
    study = create(api, "misplaced")
    for wrong in ("x", "-1", str(2**31)):
        answer = api.get(f"/studies/{study}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": wrong})
        assert answer.status_code == 422
    assert api.get("/studies/nothing/events", headers={"Accept": "text/event-stream"}).status_code == 404


def test_the_client_goes_on_where_the_connection_was_lost(api, address, database):  # noqa: F811
    """Through a door that is shut on the first connection."""
    study = create(api, "rejoined")
    with Door(address) as door, Client(door.url, patience=10) as client:
        messages = client.stream(study)
        seen = [next(messages) for _ in range(3)]
        assert [data["sequence"] for name, data in seen if name == "event"] == [1]
        door.shut()
        append(database, study, "claimed", {})
        seen = [next(messages)]
        while seen[-1][0] != "event":
            seen.append(next(messages))
        assert ("lost", None) in seen
        after = seen[-1][1]
        assert (after["sequence"], after["kind"]) == (2, "claimed")
        messages.close()


class Door:
    """Passes bytes on to the server, and cuts its connections when asked."""

    def __init__(self, to: str):
        self._to = ("127.0.0.1", int(to.rpartition(":")[2]))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> "Door":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._server.close()
        self.shut()

    def shut(self) -> None:
        while self._open:
            with self._open.pop() as connection:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other end was first

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            theirs = socket.create_connection(self._to)
            self._open += [ours, theirs]
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while said := source.recv(65536):
            sink.sendall(said)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_watching_ends_with_the_study_and_shows_each_change(api, address, database, capsys):  # noqa: F811
    study = create(api, "watched")

    def run() -> None:
        time.sleep(0.5)
        with database.begin() as session:
            studies.change_state(session, study, Action.PREPARE)
            studies.change_state(session, study, Action.RUN)
        finish(database, study, 0, result(Outcome.VALID, 3.0))
        append(database, study, "trial_finished", {"ordinal": 0})
        time.sleep(1.5)
        with database.begin() as session:
            studies.change_state(session, study, Action.COMPLETE)

    runner = threading.Thread(target=run)
    runner.start()
    with Client(address) as client:
        assert watching.follow(client, study, Console(force_terminal=False, width=200))["state"] == "completed"
    runner.join()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("watched: queued · 0/10 trials")
    assert any(line.startswith("watched: running · 1/10 trials · 1 valid · best 3.0000 nats/token") for line in said)
    assert said[-1].startswith("watched: completed")


@pytest.fixture
def process(database) -> Iterator[tuple[subprocess.Popen, str]]:
    """The API as a process of its own, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", str(port)],
        env={**os.environ, "MUDMAN_DATABASE_URL": database.url},
        stderr=subprocess.PIPE,
        text=True,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 30
    while True:
        try:
            httpx.get(f"{url}/healthz")
            break
        except httpx.HTTPError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    yield process, url
    process.kill()
    process.wait()
    process.stderr.close()


def test_open_streams_do_not_hold_up_the_end_of_the_process(api, process):
    running, url = process
    study = create(api, "stopped")
    with Stream(url, study) as stream:
        stream.until("standing")
        running.send_signal(signal.SIGTERM)
        rest = stream.rest()  # ends in order: a connection that was cut would raise
        running.wait(5)
    assert {name for name, _ in rest} <= {"alive"}
    said = running.stderr.read()
    assert "Traceback" not in said
    assert "exceeded" not in said


def test_a_reader_that_does_not_read_takes_no_memory(api, process, database):
    """80 MB of events wait for it in the database, not in the process."""
    psutil = pytest.importorskip("psutil")
    running, url = process
    study = create(api, "slow")
    with psycopg.connect(database.url) as connection:
        connection.execute(
            """insert into mudman.event (study_id, sequence, kind, data)
            select %s, n, 'claimed', jsonb_build_object('said', repeat(md5(n::text), 250))
            from generate_series(2, 10000) n
            """,
            [study],
        )
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as reader:
        before = psutil.Process(running.pid).memory_info().rss
        asked = f"GET /studies/{study}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        reader.sendall(asked.encode())
        time.sleep(2)
        grown = psutil.Process(running.pid).memory_info().rss - before
        assert reader.recv(12) == b"HTTP/1.1 200"
    assert grown < 40e6, f"{grown / 1e6:.0f} MB"
