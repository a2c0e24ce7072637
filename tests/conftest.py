"""Property tests draw the same examples on every machine, and know no deadline: the machines are shared."""

import signal

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
