"""Property tests draw the same examples on every machine, and know no deadline: the machines are shared."""

import signal

import pytest
from hypothesis import Phase, settings

# Whoever runs the tests in the background may have them ignore Ctrl-C, and ignoring is inherited: the programs under
# test would never see theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "mudman",
    deadline=None,
    derandomize=True,
    max_examples=50,
    phases=(Phase.explicit, Phase.generate),  # shrinking a spec takes minutes: ask for it when it is needed
)
settings.load_profile("mudman")


@pytest.fixture(autouse=True, scope="session")
def _names():
    """The API without tokens answers to names of loopback alone, and starlette's test client calls it by another. The
    token of whoever runs the tests is theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUDMAN_HOSTS", '["testserver"]')
        patch.setenv("XDG_CONFIG_HOME", "/nonexistent")
        for name in ("MUDMAN_TOKEN", "MUDMAN_TOKEN_FILE", "MUDMAN_ACCESS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _token_cache(tmp_path_factory):
    """Tests, and the programs they start, keep tokens apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUDMAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
