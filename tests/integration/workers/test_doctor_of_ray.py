"""Whether the doctor can tell that Ray's head takes this machine's token: of a real head."""

import fcntl

import pytest
from clusters import cluster

from service import doctor
from service.doctor import ray_head as check
from service.endpoint import Endpoint
from service.store.settings import Settings


def test_a_head_takes_its_own_token_and_no_other(ray_head, tmp_path):
    assert check.head(ray_head.address, ray_head.environment).ok
    (tmp_path / "token").write_text("0" * 64)
    other = check.head(ray_head.address, check.with_token(tmp_path / "token"))
    assert (other.ok, other.found) == (False, f"{ray_head.address} does not take this machine's token")
    assert "RAY_AUTH_TOKEN_PATH" in other.remedy
    none = check.head(ray_head.address, {"RAY_AUTH_MODE": "disabled"})
    assert (none.ok, none.found) == (False, other.found)


def test_a_head_that_is_not_there():
    away = check.head("127.0.0.1:1", {"RAY_AUTH_MODE": "disabled"}, patience=3)
    assert (away.ok, away.found) == (False, "nothing answers at 127.0.0.1:1 within 3 s")
    assert "MUDMAN_RAY_ADDRESS" in away.remedy


@pytest.fixture
def loopback_head():
    """As that of the embedded system: nobody reaches it at another address."""
    with cluster() as one:
        one.head("--num-cpus", "0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
        yield one


def test_which_head_is_meant(ray_head, loopback_head, tmp_path, monkeypatch):
    """The configured one, with the token of the environment; or else that of the embedded system, with its own."""
    for name, value in ray_head.environment.items():
        monkeypatch.setenv(name, value)
    configured = doctor.Site(Settings(state_dir=tmp_path, ray_address=ray_head.address), None, None, None)
    [finding] = check.checks(configured)
    assert finding.ok
    nothing = doctor.Site(Settings(state_dir=tmp_path), None, None, None)
    assert list(check.checks(nothing)) == []
    Endpoint("http://127.0.0.1:1", 1, loopback_head.address, "", "", "", "").write(tmp_path)
    own = loopback_head.folder / "token"
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for token, ok in ((own.read_text(), True), ("0" * 64, False)):
            (tmp_path / "ray-token").write_text(token)
            [finding] = check.checks(nothing)
            assert (finding.ok, loopback_head.address in finding.found) == (ok, True)
