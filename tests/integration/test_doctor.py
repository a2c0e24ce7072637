"""What the doctor says of installations with one thing wrong, and of a machine on which nothing runs."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from served import served
from sqlalchemy import text

from mudman import presets
from mudman.specs import parse
from service import doctor
from service.app import create_app
from service.doctor import Finding, database, machine, software, sweeps, system
from service.endpoint import Endpoint
from service.installation import embedded
from service.store import events, leases, nodes, studies, tokens
from service.store.database import Database
from service.store.scopes import Scope
from service.store.settings import Settings
from service.store.states import Action

MUDMAN = Path(sys.executable).with_name("mudman")


@pytest.fixture
def state_dir(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("MUDMAN_", "RAY_AUTH"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def site(new_database) -> Database:
    """A database with one dispatcher, one node and one study that is queued."""
    database = new_database()
    with database.begin() as session:
        leases.seen(session, "d1", "here", 1)
        nodes.observe(session, [nodes.Seen("n1", "10.0.0.1", "here", 4.0, 0.0, 10**9, {})])
        studies.create(session, parse(presets.load("quickstart")))
    return database


def examine(state_dir: Path, database: Database, monkeypatch) -> dict[str, Finding]:
    monkeypatch.setenv("MUDMAN_DATABASE_URL", database.url)
    return {finding.check: finding for finding in doctor.examine(state_dir)}


def broken(findings: dict[str, Finding]) -> dict[str, str]:
    for finding in findings.values():
        assert (finding.remedy is not None) == (finding.ok is False), finding
    return {name: finding.found for name, finding in findings.items() if finding.ok is False}


def endpoint(pid: int) -> Endpoint:
    return Endpoint("http://127.0.0.1:1", pid, "", "/none", "", "", "")


def test_nothing_is_wrong_with_an_installation_that_works(state_dir, site, monkeypatch):
    found = examine(state_dir, site, monkeypatch)
    assert broken(found) == {}
    assert {name for name, finding in found.items() if finding.ok} >= {
        *("python", "optuna", "sqlalchemy", "ray", "torch", "settings", "disk", "shared memory", "data root"),
        *("database", "Postgres", "clock", "migrations", "Optuna's tables", "dispatcher", "nodes", "leases"),
    }


def test_where_checkpoints_are_kept(state_dir, site, monkeypatch):
    assert examine(state_dir, site, monkeypatch)["artifacts"].ok is None
    monkeypatch.setenv("MUDMAN_ARTIFACTS", str(state_dir / "artifacts"))
    assert examine(state_dir, site, monkeypatch)["artifacts"].ok is True
    monkeypatch.setenv("MUDMAN_ARTIFACTS", "ftp://somewhere")
    found = examine(state_dir, site, monkeypatch)
    assert list(broken(found)) == ["artifacts"]
    assert "s3://bucket/prefix" in found["artifacts"].remedy


def test_an_empty_machine_is_no_broken_one(state_dir):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(state_dir), "MUDMAN_STATE_DIR": str(state_dir / "none")}
    command = [MUDMAN, "doctor", "--json"]
    done = subprocess.run(command, cwd=state_dir, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = {finding["check"]: finding["ok"] for finding in json.loads(done.stdout)}
    assert found["python"] is True
    assert [found[name] for name in ("database", "embedded system", "API", "ray token")] == [None] * 4


def test_a_finding_is_a_line_with_its_remedy_and_an_exit_code(state_dir):
    environment = {"PATH": "/usr/bin:/bin", "MUDMAN_STATE_DIR": str(state_dir), "MUDMAN_DATA_ROOT": "/nowhere"}
    done = subprocess.run([MUDMAN, "doctor"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert line.split(maxsplit=3)[1:3] == ["data", "root"]
    assert "/nowhere is no folder. Remedy: make it, or correct MUDMAN_DATA_ROOT" in line


def test_a_database_that_is_not_migrated(state_dir, postgres, monkeypatch):
    empty = Database(postgres.create("template1"))
    assert broken(examine(state_dir, empty, monkeypatch)) == {
        "migrations": "not this version's tables",
        "Optuna's tables": "there are none",
    }
    empty.close()


def test_a_database_of_a_newer_version_is_not_to_be_migrated(state_dir, site, monkeypatch):
    with site.begin() as session:
        session.execute(text("update mudman.mudman_version set version_num = '9999'"))
        session.execute(text("update optuna.alembic_version set version_num = 'v99.0.0'"))
    found = examine(state_dir, site, monkeypatch)
    assert broken(found).keys() == {"migrations", "Optuna's tables"}
    assert "9999" in found["migrations"].found
    for name in ("migrations", "Optuna's tables"):
        assert found[name].remedy.startswith("update this installation")


def test_optunas_tables_of_an_older_version(state_dir, site, monkeypatch):
    with site.begin() as session:
        now = session.scalar(text("select version_num from optuna.alembic_version"))
        session.execute(text("update optuna.alembic_version set version_num = 'v3.0.0.d'"))
    found = examine(state_dir, site, monkeypatch)
    assert broken(found) == {"Optuna's tables": f"v3.0.0.d, not {now}"}
    assert found["Optuna's tables"].remedy == "python -m service.store.migrate"


def test_a_postgres_that_is_too_old_and_a_clock_that_is_wrong(site):
    with site.begin() as session:
        old = database.version(session, oldest=99)
        ahead = database.clock(session, lambda: time.time() - 60)
        behind = database.clock(session, lambda: time.time() + 60)
    assert (old.ok, old.remedy) == (False, "move to Postgres 18: pg_dump and restore")
    assert (ahead.ok, ahead.found) == (False, "the database's is 60 s ahead")
    assert (behind.ok, behind.found) == (False, "the database's is 60 s behind")
    assert "chrony" in behind.remedy


def test_too_little_room_on_disk_and_in_shared_memory(tmp_path):
    full = machine.room(tmp_path / "not" / "made", wanted=1e18)
    assert (full.ok, "GB free for" in full.found) == (False, True)
    assert "MUDMAN_STATE_DIR" in full.remedy
    small = machine.shared_memory(tmp_path, wanted=1e18)
    assert (small.ok, "--shm-size" in small.remedy) == (False, True)
    assert machine.shared_memory(tmp_path / "none").ok is None


def test_a_dispatcher_of_a_cluster_needs_no_data_root(state_dir, monkeypatch):
    """In its container the image names one, and nothing is mounted there."""
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(state_dir / "none"))
    assert machine.data_root(state_dir / "none").ok is False
    assert machine.data_root(state_dir / "none", dispatches=True).ok is None
    monkeypatch.setenv("MUDMAN_RAY_ADDRESS", "ray-head:6379")
    site = doctor.Site(Settings(), None, None, None)
    assert [finding.ok for finding in machine.checks(site) if finding.check == "data root"] == [None]


def test_a_database_that_does_not_answer_shows_no_password(state_dir, monkeypatch):
    away = Database("postgresql://me:secret@127.0.0.1:1/none")
    found = examine(state_dir, away, monkeypatch)
    assert list(broken(found)) == ["database"]
    assert "secret" not in str(found)


def test_nobody_dispatches(state_dir, site, monkeypatch):
    with site.begin() as session:
        session.execute(text("update mudman.dispatcher set seen_at = now() - interval '90 seconds'"))
    assert broken(examine(state_dir, site, monkeypatch)).keys() == {"dispatcher"}
    with site.begin() as session:
        session.execute(text("delete from mudman.dispatcher"))
    assert broken(examine(state_dir, site, monkeypatch)) == {"dispatcher": "none was ever seen"}


def test_no_node_is_large_enough(site):
    with site.begin() as session:
        spec = parse(presets.load("quickstart") | {"name": "large", "resources": {"gpus": 2}})
        studies.create(session, spec)
    with site.begin() as session:
        finding = sweeps.room(session)
    assert finding.ok is False
    assert finding.found == "1 alive, 4 CPUs, 0 GPUs: none has the 1 CPUs and 2 GPUs that 1 studies ask for"


def test_a_node_without_cores_runs_nothing(site):
    """As Ray's head is one."""
    head = nodes.Seen("head", "10.0.0.2", "there", 0.0, 0.0, 10**9, {})
    with site.begin() as session:
        nodes.observe(session, [head, nodes.Seen("n1", "10.0.0.1", "here", 4.0, 0.0, 10**9, {})])
        assert sweeps.room(session).found == "1 alive, 4 CPUs, 0 GPUs"
        nodes.observe(session, [head])
        finding = sweeps.room(session)
        assert finding.ok is False
        assert finding.found.startswith("0 alive, 0 CPUs, 0 GPUs: none has the 1 CPUs")
        session.execute(text("delete from mudman.study"))
        assert sweeps.room(session).ok is None


@pytest.mark.parametrize("expires_at", ["now() - interval '1 minute'", "null"])
def test_a_study_runs_and_nobody_holds_its_lease(site, expires_at):
    with site.begin() as session:
        study = studies.create(session, parse(presets.load("quickstart") | {"name": "orphan"})).study
        studies.change_state(session, study.id, Action.PREPARE)
        session.execute(
            text(f"update mudman.study_group set expires_at = {expires_at} where id = :group"),
            {"group": study.group_id},
        )
        an_hour_ago(session)
    with site.begin() as session:
        finding = sweeps.leases(session)
    assert finding.ok is False
    assert study.group_id in finding.found


@pytest.fixture
def begun(site) -> str:
    """Group of a study that has begun and that nobody holds now."""
    with site.begin() as session:
        study = studies.create(session, parse(presets.load("quickstart") | {"name": "begun"})).study
        studies.change_state(session, study.id, Action.PREPARE)
        an_hour_ago(session)
    return study.group_id


def an_hour_ago(session) -> None:
    """That is when whatever has happened did."""
    session.execute(text("update mudman.study set queued_at = now() - interval '1 hour'"))
    session.execute(text("update mudman.event set at = now() - interval '1 hour'"))


def test_a_study_that_waits_its_turn_needs_no_holder(site, begun):
    with site.begin() as session:
        assert sweeps.leases(session).ok is False
        session.execute(text("update mudman.study_group set max_live = 0 where id = :group"), {"group": begun})
    with site.begin() as session:
        assert sweeps.leases(session).ok


def test_between_two_runners_nothing_is_wrong(site, begun):
    """It was queued long ago, and its last runner is gone since a moment."""
    with site.begin() as session:
        study_id = session.scalar(text("select id from mudman.study where group_id = :group"), {"group": begun})
        events.append(session, study_id, "trial_finished")
    with site.begin() as session:
        assert sweeps.leases(session).ok


def test_a_supervisor_that_was_killed_leaves_an_endpoint_that_leads_nowhere(state_dir):
    gone = subprocess.Popen(["true"])
    gone.wait()
    endpoint(gone.pid).write(state_dir)
    found = {finding.check: finding for finding in doctor.examine(state_dir)}
    assert broken(found) == {
        "embedded system": f"{state_dir}/endpoint.json names process {gone.pid}, which is gone: it was killed"
    }


def test_a_supervisor_that_lives_holds_its_lock(state_dir):
    with (state_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert system.embedded(state_dir, endpoint(1)).ok
        assert system.embedded(state_dir, None).found == "is being started or stopped"
    assert system.embedded(state_dir, endpoint(1)).ok is False


def test_another_process_with_the_number_of_one_that_was_killed_is_no_supervisor(state_dir):
    endpoint(os.getpid()).write(state_dir)
    assert embedded(Settings(state_dir=state_dir)) is None
    with (state_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert embedded(Settings(state_dir=state_dir)) == endpoint(os.getpid())


def test_a_lock_that_cannot_be_looked_at_says_nothing(state_dir):
    (state_dir / "lock").mkdir()
    for found in (endpoint(1), None):
        finding = system.embedded(state_dir, found)
        assert (finding.ok, finding.remedy) == (None, None)
        assert str(state_dir / "lock") in finding.found


def test_the_database_is_let_go_whatever_was_found(state_dir, site, monkeypatch):
    """Also where it does not answer, and where nobody wants to hear the rest."""
    closed = []
    close = Database.close

    def note(database: Database) -> None:
        closed.append(database)
        close(database)

    monkeypatch.setattr(Database, "close", note)
    away = "postgresql://me@127.0.0.1:1/none"
    [finding] = database.checks(doctor.Site(Settings(), None, None, away))
    assert (finding.ok, len(closed)) == (False, 1)
    started = database.checks(doctor.Site(Settings(), None, None, site.url))
    assert next(started).ok
    started.close()
    assert len(closed) == 2


@pytest.mark.parametrize(("mode", "ok"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False)])
def test_the_token_is_for_its_owner(tmp_path, mode, ok):
    token = tmp_path / "token"
    token.write_text("abc")
    token.chmod(mode)
    assert machine.ray_token(token, "token").ok is ok
    assert machine.ray_token(token, None).ok is False


def test_a_token_that_is_empty_or_missing(tmp_path):
    assert "cannot read" in machine.ray_token(tmp_path / "none", "token").found
    (tmp_path / "token").touch(0o600)
    assert "is empty" in machine.ray_token(tmp_path / "token", "token").found


def test_a_secret_that_others_can_read(tmp_path):
    (tmp_path / "database-url").write_text("postgresql://…")
    (tmp_path / "database-url").chmod(0o644)
    finding = machine.state_folder(tmp_path)
    assert (finding.ok, finding.remedy) == (False, f"chmod 600 {tmp_path}/database-url")


def test_versions_are_those_of_the_lock(tmp_path):
    (tmp_path / "all.lock").write_text("optuna==4.0.0 \\\n    --hash=sha256:00\n")
    assert software.pinned(tmp_path, "optuna") == "4.0.0"
    assert software.pinned(tmp_path, "ray") is None
    assert software.package("optuna", None, "4.0.0").ok is False
    assert software.package("no-such-package", None, "1").ok is None
    assert software.python("3.10.9").ok is False


def test_an_api_elsewhere_is_asked_itself(state_dir):
    [finding] = system.api("http://127.0.0.1:1", Settings())
    assert finding.ok is False
    assert "nothing listens" in finding.found


def test_a_token_that_the_api_does_not_take(state_dir, site, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(state_dir))
    with site.begin() as session:
        good = tokens.new_text()
        tokens.create(session, owner="ann", scope=Scope.READ, days=1, value=good)
    with served(create_app(Settings(database_url=site.url, access="tokens"))) as address:
        monkeypatch.setenv("MUDMAN_URL", address)
        assert "API token" not in examine(state_dir, site, monkeypatch)
        monkeypatch.setenv("MUDMAN_TOKEN", good)
        assert examine(state_dir, site, monkeypatch)["API token"].ok
        monkeypatch.setenv("MUDMAN_TOKEN", tokens.new_text())
        found = examine(state_dir, site, monkeypatch)
        assert broken(found).keys() == {"API token"}
        assert "mudman token save" in found["API token"].remedy
        assert "mudman_" not in str(found)
        monkeypatch.delenv("MUDMAN_TOKEN")
        monkeypatch.setenv("MUDMAN_TOKEN_FILE", str(state_dir / "none"))
        assert broken(examine(state_dir, site, monkeypatch)).keys() == {"API token"}


def test_tokens_that_are_missing_or_end_soon(state_dir, site, monkeypatch):
    found = examine(state_dir, site, monkeypatch)
    assert found["access"].found == "no tokens, on 127.0.0.1 alone"
    monkeypatch.setenv("MUDMAN_HOST", "0.0.0.0")
    assert "MUDMAN_ACCESS=tokens" in examine(state_dir, site, monkeypatch)["access"].remedy
    monkeypatch.setenv("MUDMAN_ACCESS", "tokens")
    assert broken(examine(state_dir, site, monkeypatch)) == {"tokens": "none of scope admin is good"}
    with site.begin() as session:
        for owner, scope, days in (("root", Scope.ADMIN, 90), ("ann", Scope.SUBMIT, 30), ("ci", Scope.READ, 1)):
            tokens.create(session, owner=owner, scope=scope, days=days, value=tokens.new_text())
    assert examine(state_dir, site, monkeypatch)["tokens"].found == "3 are good"
    with site.begin() as session:
        session.execute(
            text(
                "update mudman.token set created_at = created_at - interval '20 days', "
                "expires_at = expires_at - interval '20 days' where owner <> 'ci'"
            )
        )
        [ann] = [one.id for one in tokens.every(session) if one.owner == "ann"]
    assert examine(state_dir, site, monkeypatch)["tokens"].found == f"3 are good; end soon: {ann} of ann"
