"""Property tests draw the same examples on every machine, and know no deadline: the machines are shared."""

from hypothesis import Phase, settings

settings.register_profile(
    "mudman",
    deadline=None,
    derandomize=True,
    max_examples=50,
    phases=(Phase.explicit, Phase.generate),  # shrinking a spec takes minutes: ask for it when it is needed
)
settings.load_profile("mudman")
