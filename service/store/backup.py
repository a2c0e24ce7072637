"""Backup of a live database, and restore into an empty one, by Postgres' own programs.

A backup is one consistent moment: trials may run and end meanwhile. After a restore no lease is held, so that a
dispatcher claims at once, under a higher epoch; trials that ran at that moment are lost, and start again.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from service.store import postgres_programs
from service.store.cluster_tables import Dispatcher, Node
from service.store.migrate import VERSION_TABLE, NewerDatabase, alone, migrate, revisions, upgrade
from service.store.tables import OPTUNA_SCHEMA, SCHEMA, Group, Study

SCHEMAS = (OPTUNA_SCHEMA, SCHEMA)
_HOLDS_STUDIES, _IS_NEWER = "there are studies", "a newer version wrote this"
_CLEAR = f"""
set client_min_messages = warning;
begin;
do $$
declare
    named text;
    taken boolean;
begin
    foreach named in array array['{SCHEMA}.study', '{OPTUNA_SCHEMA}.studies'] loop
        if to_regclass(named) is not null then
            execute format('lock table %s in access exclusive mode', named);  -- no study gets in between
            execute format('select exists (select from %s)', named) into taken;
            if taken then raise exception '{_HOLDS_STUDIES}'; end if;
        end if;
    end loop;
end $$;
drop schema if exists {OPTUNA_SCHEMA}, {SCHEMA} cascade;
"""
"""Drop our schemas if there is no study in them."""
_KEEP = f"""
do $$ begin
    if exists (select from {SCHEMA}.{VERSION_TABLE} where version_num not in (KNOWN)) then
        raise exception '{_IS_NEWER}';
    end if;
end $$;
commit;
"""


class BackupFailed(MudmanError):
    """The database could not be dumped or loaded; the message holds the program's own words."""


class NotEmpty(MudmanError):
    """There are studies where a backup was to be restored. Nothing was changed."""


def backup(url: str, file: Path) -> int:
    """Write everything of ours to ``file``; answers its bytes. An older file of this name is replaced at the end.

    Raises ``BackupFailed``, ``NoProgram``.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)  # specs and results of everybody
        schemas = [f"--schema={schema}" for schema in SCHEMAS]
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", *schemas, f"--file={partial}")
        os.replace(partial, file)
    except OSError as error:
        raise BackupFailed(f"cannot write {file}: {error.strerror}. Remedy: name a file that can be written") from None
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def restore(url: str, file: Path) -> int:
    """Load a backup into a database that holds no studies; answers how many it holds now. Migrates an older one.

    The server must be of Postgres 17 at least: today's ``pg_restore`` sets what older ones do not know.

    Raises ``NotEmpty``, ``BackupFailed``, ``NoProgram``, ``DatabaseUnavailable``, ``NewerDatabase``: until all of it is
    loaded the database is as it was.
    """
    if not file.is_file():
        raise BackupFailed(f"there is no file {file}. Remedy: name one that `mudman backup` wrote")
    with alone(url) as connection:
        _load(url, file)
        upgrade(connection)
        with connection.begin(), Session(connection) as session:
            studies = _forget_the_living(session)
    migrate(url)
    return studies


def _load(url: str, file: Path) -> None:
    """In one transaction with the drops, and committed only when the backup was read to its end: ``pg_restore`` by
    itself commits, or leaves behind, what it had read of a damaged one."""
    read = [postgres_programs.program("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(file)]
    write = [postgres_programs.program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    where = os.environ | postgres_programs.environment(url)
    with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as refusals:
        ended, told = None, False
        reader = subprocess.Popen(read, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        with reader, subprocess.Popen(write, env=where, stdin=subprocess.PIPE, stderr=refusals) as writer:
            try:
                writer.stdin.write(_CLEAR.encode())
                shutil.copyfileobj(reader.stdout, writer.stdin)
                ended = reader.wait()
                if ended == 0:
                    known = ", ".join(f"'{revision}'" for revision in revisions())
                    writer.stdin.write(_KEEP.replace("KNOWN", known).encode())
                writer.stdin.close()
                told = True
            except BrokenPipeError:  # psql has ended, and says why
                reader.kill()
                with contextlib.suppress(BrokenPipeError):
                    writer.stdin.close()
        if ended:
            words = _words(complaints) or f"it ended with status {ended}"
            raise BackupFailed(f"pg_restore failed: {words}. Nothing was changed")
        if writer.returncode or not told:
            raise _refused(_words(refusals))


def _words(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()


def _refused(words: str) -> MudmanError:
    if _HOLDS_STUDIES in words:
        return NotEmpty(
            "the database holds studies already, and a backup is restored into an empty one only. Remedy: "
            "create another database and name it in MUDMAN_DATABASE_URL_FILE, or delete its studies first"
        )
    if _IS_NEWER in words:
        return NewerDatabase(
            "the backup was written by a newer version of mudman. Update this installation to at least that version"
        )
    return BackupFailed(f"psql failed: {words}. Nothing was changed")


def _forget_the_living(session: Session) -> int:
    """Who held leases, dispatched and computed when the backup was made does so no more."""
    free = {"expires_at": None, "not_before": None, "failures": 0, "max_live": None, "waiting": None}
    session.execute(update(Group).values(epoch=Group.epoch + 1, **free))
    session.execute(delete(Dispatcher))
    session.execute(delete(Node))
    return session.scalar(select(func.count()).select_from(Study))


def _run(url: str, program: str, *arguments: str) -> None:
    command = [postgres_programs.program(program), *arguments]
    done = subprocess.run(command, env=os.environ | postgres_programs.environment(url), capture_output=True, text=True)
    if done.returncode:
        raise BackupFailed(f"{program} failed: {done.stderr.strip()}")
