"""What is old is dropped, a batch at a time; numbers and curves stay."""

import pytest
from sqlalchemy import func, select, text, update
from test_store_studies import add_trial, create

from mudman.results import Outcome, TrialResult
from service.store import attempts, audit, events, idempotency, retention
from service.store.access_tables import AuditEvent
from service.store.attempts import LOG_HEAD, LOG_TAIL
from service.store.settings import Settings
from service.store.tables import Event, IdempotencyKey, Trial

RESULT = TrialResult(outcome=Outcome.VALID, value=1.0).model_dump(mode="json", exclude={"log"})


@pytest.fixture
def aged(new_database):
    """A study with an attempt, an event and a key of 100 days ago, and of today."""
    database = new_database()
    study_id = create(database, "aged")
    ago = text("now() - interval '100 days'")
    with database.begin() as session:
        events.append(session, study_id, "claimed")
        session.execute(update(Event).where(Event.sequence == 1).values(at=ago))
        for key in ("old", "new"):
            idempotency.remember(session, "me", key, "hash", study_id=study_id)
            audit.record(session, address="here", method="POST", path=f"/{key}", status=200)
        session.execute(update(AuditEvent).where(AuditEvent.path == "/old").values(at=ago))
        session.execute(update(IdempotencyKey).where(IdempotencyKey.key == "old").values(created_at=ago))
    for ordinal in (0, 1):
        add_trial(database, study_id, ordinal, "valid", 1.0, log="words", result=RESULT)
    add_trial(database, study_id, 2, None, progress={"passes": 3})
    with database.begin() as session:
        session.execute(update(Trial).where(Trial.ordinal == 0).values(finished_at=ago))
    return database


def left(database) -> tuple:
    with database.begin() as session:
        logs = session.execute(select(Trial.ordinal, Trial.log).order_by(Trial.ordinal)).tuples().all()
        sequences = session.scalars(select(Event.sequence).order_by(Event.sequence)).all()
        keys = session.scalars(select(IdempotencyKey.key).order_by(IdempotencyKey.key)).all()
        audited = session.scalars(select(AuditEvent.path).order_by(AuditEvent.id)).all()
    return dict(logs), sequences, keys, audited


def test_what_is_old_goes(aged):
    assert retention.drop_old(aged, Settings(log_days=99, event_days=99, audit_days=99, idempotency_days=99)) == {
        "logs": 1,
        "events": 1,
        "idempotency_keys": 1,
        "audit_events": 1,
        "artifacts": 0,
    }
    assert left(aged) == ({0: None, 1: "words", 2: None}, [2], ["new"], ["/new"])
    with aged.begin() as session:
        row = session.get_one(Trial, (session.scalar(select(Trial.study_id).limit(1)), 0, 1))
        assert (row.result, row.value, row.reason) == (RESULT, 1.0, "valid")
        assert session.scalar(select(Trial.progress).where(Trial.ordinal == 2)) == {"passes": 3}


@pytest.mark.parametrize("days", [101, 0])
def test_what_is_younger_stays_and_with_zero_everything(aged, days):
    before = left(aged)
    wanted = dict.fromkeys(("log_days", "event_days", "audit_days", "idempotency_days"), days)
    dropped = retention.drop_old(aged, Settings(**wanted))
    assert set(dropped.values()) == {0}
    assert left(aged) == before


def test_in_batches_over_an_index_and_around_what_is_locked(aged, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "BATCHES", 3)
    with aged.begin() as session:
        study_id = session.scalar(select(Trial.study_id).limit(1))
        session.execute(
            text(
                "insert into mudman.trial "
                "(study_id, ordinal, attempt, epoch, hyperparameters, outcome, log, finished_at) "
                "select :study, n, 1, 1, '{}', 'valid', 'old', now() - interval '100 days' "
                "from generate_series(10, 54) n"
            ),
            {"study": study_id},
        )
    settings = Settings(log_days=99, event_days=0, idempotency_days=0)
    with aged.begin() as other:
        other.execute(select(Trial).where(Trial.ordinal == 0).with_for_update())
        assert [retention.drop_old(aged, settings)["logs"] for _ in range(3)] == [30, 15, 0]
    assert retention.drop_old(aged, settings)["logs"] == 1
    with aged.begin() as session:
        session.execute(text("set local enable_seqscan = off"))
        for statement, index in ((retention._LOGS, "ix_trial_log"), (retention._EVENTS, "ix_event_at")):
            plan = session.execute(text(f"explain {statement}"), {"days": 9, "batch": 10}).scalars().all()
            assert any(index in line for line in plan), plan
        assert session.scalar(select(func.count()).where(Trial.log.is_not(None))) == 1


def test_a_long_log_keeps_its_head_and_its_tail():
    assert attempts._bounded("x" * (LOG_HEAD + LOG_TAIL)) == "x" * (LOG_HEAD + LOG_TAIL)
    log = attempts._bounded("a" * LOG_HEAD + "b" * 123 + "c" * LOG_TAIL)
    assert log == "a" * LOG_HEAD + "\n[… 123 characters left out …]\n" + "c" * LOG_TAIL
