"""The thread that renews a lease never ends without a word."""

import pytest

from service.store.database import Database
from service.store.leases import Lease
from workers.desk import Desk
from workers.keeper import LeaseKeeper


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    monkeypatch.setattr("workers.keeper.LAST_WORDS", 1e6)
    database = Database(f"postgresql:///x?host={tmp_path}&user=me")
    yield LeaseKeeper(database, Lease("gr_1", 1), Desk(), 0.05, 0.1)
    database.close()


def test_a_database_that_is_away_stops_nothing(keeper):
    keeper.start()
    keeper.join(0.5)
    assert keeper.is_alive()
    assert not keeper.lost.is_set()
    assert not keeper._desk.halted
    keeper._given_back.set()
    keeper.join(5)


def test_an_unexpected_error_stops_the_trials_and_is_logged(keeper, caplog):
    keeper._expiry = "no number of seconds"
    keeper.start()
    keeper.join(5)
    assert keeper.lost.is_set()
    assert keeper._desk.halted
    assert "TypeError" in caplog.text
