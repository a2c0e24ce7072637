"""Specs and documents drawn by hypothesis."""

from hypothesis import strategies as st

from mudman.specs import StudySpec, parse

JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)

_names = st.from_regex(r"[a-z][a-z0-9_./-]{0,20}", fullmatch=True)


def _number(low: float, high: float):
    """A value, or a range, between two positive bounds."""
    value = st.floats(low, high, allow_subnormal=False)
    ends = st.tuples(value, value).filter(lambda ends: ends[0] != ends[1]).map(sorted)
    ranges = st.builds(lambda ends, log: {"low": ends[0], "high": ends[1], "log": log}, ends, st.booleans())
    return value | ranges


_adversaries = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["none", "fork"]),
        "gradient": st.sampled_from(["hybrid", "reuse", "fresh"]),
        "decay": _number(0.1, 1),
        "update": _number(1e-6, 2),
        "amount": st.integers(1, 3),
    },
) | st.fixed_dictionaries({"type": st.just("lora"), "rank": st.integers(1, 16)})
_losses = st.sampled_from(["neg_cross_entropy", "neg_entropy", "correct_logit", "stream_activation"]) | st.builds(
    lambda clip: {"type": "correct_logit", "clip": clip}, _number(1e-3, 5)
)
_masks = st.sampled_from(["none", "sign", "agem"]) | st.builds(
    lambda quantile: {"type": "percentile", "forget_quantile": quantile}, _number(0.01, 1)
)
_methods = st.fixed_dictionaries(
    {
        "type": st.just("mudman"),
        "target_modules": st.lists(_names, min_size=1, max_size=3),
        "unlearning_rate": _number(1e-9, 1),
    },
    optional={
        "loss": _losses,
        "mask": _masks,
        "normalization": st.sampled_from(["none", "global_post_mask", "global_pre_mask"]),
        "rate_unit": st.sampled_from(["rms", "l2"]),
        "adversary": _adversaries,
        "forget_momentum": _number(1e-3, 1),
        "representation_loss": st.none() | st.fixed_dictionaries({}, optional={"coefficient": _number(1e-3, 10)}),
        "retaining_rate": _number(1e-9, 1),
        "fork_every": st.builds(
            lambda low, width: {"low": low, "high": low + width, "int": True}, st.integers(1, 50), st.integers(1, 50)
        )
        | st.integers(1, 100),
    },
)
_other_methods = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["gradient_ascent", "gradient_difference", "circuit_breakers", "random_mapping"]),
        "target_modules": st.lists(_names, min_size=1, max_size=3),
        "unlearning_rate": _number(1e-9, 1),
    }
) | st.builds(
    lambda strengths: {
        "type": "static_circuit",
        "target_modules": ["gate_proj"],
        "unlearning_rate": 0.1,
        "circuits": [{"loss": "neg_cross_entropy", "strength": strength} for strength in strengths],
    },
    st.lists(_number(0.1, 2), min_size=1, max_size=3),
)
_corpora = st.fixed_dictionaries({"corpus": _names}, optional={"split": _names, "repeat": st.booleans()})
_seeds = st.integers(0, 2**32 - 1)

DOCUMENTS = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50),
        "model": st.fixed_dictionaries({"id": _names}, optional={"dtype": st.sampled_from(["float32", "bfloat16"])}),
        "forget": _corpora,
        "retain": _corpora,
        "method": _methods | _other_methods | st.fixed_dictionaries({"type": st.just("none")}),
        "attack": st.fixed_dictionaries(
            {"rate": st.floats(1e-6, 1), "passes": st.integers(1, 100).map(lambda loops: 4 * loops)},
            optional={"retain": st.booleans(), "check_every": st.integers(1, 100)},
        ),
        # 60 loops of 4, 5 and 6 passes alike
        "budget": st.fixed_dictionaries(
            {"unlearn_passes": st.integers(0, 20).map(lambda n: 60 * n), "trials": st.integers(1, 1000)}
        ),
    },
    optional={
        "labels": st.dictionaries(_names, _names, max_size=3),
        "batch": st.fixed_dictionaries({}, optional={"size": st.integers(1, 64), "length": st.integers(2, 512)}),
        "constraint": st.none() | st.fixed_dictionaries({"retain_loss_increase": st.floats(0, 10)}),
        "seeds": st.fixed_dictionaries({}, optional={"data": _seeds, "trial": _seeds}),
        "resources": st.fixed_dictionaries({}, optional={"gpus": st.floats(0, 1) | st.integers(0, 8)}),
    },
)
"""Valid study documents, as a client would send them."""

SPECS: st.SearchStrategy[StudySpec] = DOCUMENTS.map(parse)
