"""A sample of every way of running a method: what the contract (test_contract.py) is checked on."""

from dataclasses import dataclass, field

from mudman.trace import FIELDS

RATES = {"unlearning_rate": 0.02, "retaining_rate": 0.05}
NO_RATES = {"unlearning_rate": 0.0, "retaining_rate": 0.0}
MUDMAN = {"type": "mudman", **RATES, "adversary_rate": 0.1, "fork_every": 2}
NESTED = {"type": "nested", **RATES, "inner_steps": 2, "adversaries": 2, "adversary_rate": 0.05}
TAR = {
    "type": "tar",
    "unlearning_rate": 0.01,
    "warm_up": 2,
    "inner_steps": 4,
    "every": 2,
    "adversary_rates": [0.01, 0.1],
}


@dataclass(frozen=True)
class Sample:
    """One way of running a method."""

    settings: dict
    neutral: dict = field(default_factory=lambda: NO_RATES)
    """Settings with which the method must change nothing."""
    no_retaining: dict | None = field(default_factory=lambda: {"retaining_rate": 0.0})
    """Settings without a retain step: with them a paused method must change nothing."""
    targets: tuple[str, ...] = ("group:first_mlp",)
    families: tuple[str, ...] = ("llama", "neox")
    booked: int = 5
    """Passes booked per loop."""
    made: int | None = None
    """Passes that four loops make, where it is another number than four loops book."""
    traced: tuple[str, ...] = FIELDS
    """What a trace tells of each loop."""
    traced_at_start: tuple[str, ...] | None = None
    """And of those before the method changes anything, where it is something else."""
    adapters_stay: bool = False

    def spec(self, **changes) -> dict:
        return {"target_modules": list(self.targets), **self.settings, **changes}


LOCATING = ("forget_loss", "gradient_norm")
APPLYING = tuple(name for name in FIELDS if name != "forget_loss")
LOOKING = ("forget_loss", "retain_loss")
"""All that a trace tells of a method that changes the model at its end only."""

SAMPLES = {
    "mudman": Sample({**MUDMAN, "forget_momentum": 0.5}),
    "mudman, no adversary": Sample({**MUDMAN, "adversary": {"type": "none"}}, booked=4),
    "mudman, fresh": Sample({**MUDMAN, "adversary": {"gradient": "fresh", "decay": 0.9, "update": 0.5}}, made=24),
    "mudman, reuse": Sample({**MUDMAN, "adversary": {"gradient": "reuse"}, "loss": "correct_logit"}),
    "mudman, adapters": Sample({**MUDMAN, "fork_every": 4, "adversary": {"type": "lora", "amount": 2, "rank": 2}}),
    "mudman, several adversaries": Sample({**MUDMAN, "fork_every": 4, "adversary": {"amount": 2}}),
    "mudman, representations": Sample({**MUDMAN, "representation_loss": {}, "revert_below": 1e-4}, booked=6),
    "mudman, elastic": Sample({**MUDMAN, "ewc": {}, "consensus_power": 2.0, "forget_momentum": 0.5}),
    "mudman, percentiles": Sample({**MUDMAN, "mask": {"type": "percentile", "warm_up": 1}, "growing_weights": 0.5}),
    "mudman, agem": Sample({**MUDMAN, "mask": "agem"}),
    "mudman, absolute": Sample({**MUDMAN, "mask": "absolute", "normalization": "global_post_mask"}),
    "mudman, compromise": Sample({**MUDMAN, "mask": "compromise", "normalization": "per_parameter"}),
    "mudman, tweaked": Sample({**MUDMAN, "backward": {"type": "tweak_first", "place": "residual"}}),
    "mudman, deactivating": Sample({**MUDMAN, "loss": "stream_activation", "backward": "fading"}),
    "gradient_ascent": Sample(
        {"type": "gradient_ascent", "unlearning_rate": 0.02},
        {"unlearning_rate": 0.0},
        None,
        booked=2,
        traced=("forget_loss", "gradient_norm", "update_norm", "kept"),
    ),
    "gradient_difference": Sample(
        {"type": "gradient_difference", "unlearning_rate": 0.02},
        {"unlearning_rate": 0.0},
        {"retain_weight": 0.0},
        booked=4,
    ),
    "circuit_breakers": Sample({"type": "circuit_breakers", **RATES}, made=24),
    "circuit_breakers, adapters": Sample(
        {"type": "circuit_breakers", **RATES, "lora": {"rank": 2}}, made=24, adapters_stay=True
    ),
    "nested": Sample(NESTED, booked=14),
    "nested, second order": Sample({**NESTED, "order": "second", "adversaries": 1}, booked=12, made=32),
    "tar": Sample(TAR, {"unlearning_rate": 0.0}, {"retain_scale": 0.0}, booked=15),
    "tar, random mapping": Sample(  # two loops of three mapping loops of four passes, and two loops of TAR
        {**TAR, "random_mapping": {"loops": 2, "rate": 0.01}},
        {"unlearning_rate": 0.0, "random_mapping": {"loops": 2, "rate": 0.0}},
        {"retain_scale": 0.0, "random_mapping": {"loops": 2, "rate": 0.0}},
        booked=15,
        made=54,
    ),
    "random_mapping": Sample({"type": "random_mapping", **RATES}, booked=4),
    "static_circuit": Sample(
        {"type": "static_circuit", **RATES, "locate_loops": 2}, booked=2, traced=APPLYING, traced_at_start=LOCATING
    ),
    "static_circuit, two": Sample(
        {
            "type": "static_circuit",
            **RATES,
            "locate_loops": 3,
            "circuits": [{"loss": "stream_activation"}, {"loss": "neg_entropy", "strength": 0.5}],
        },
        booked=2,
        traced=APPLYING,
        traced_at_start=LOCATING,
    ),
    "neuron_ablation": Sample(
        {"type": "neuron_ablation", "share": 0.1},
        {"factor": 1.0},
        None,
        ("group:down",),
        booked=2,
        traced=LOOKING,
    ),
    "weight_ablation": Sample(
        {"type": "weight_ablation", "ratio": 2.0},
        {"factor": 1.0},
        None,
        ("group:all_linear",),
        booked=4,
        traced=LOOKING,
    ),
    "weight_ablation, activation": Sample(
        {"type": "weight_ablation", "importance": "activation", "ratio": 2.0},
        {"factor": 1.0},
        None,
        ("group:gate", "group:up"),
        ("llama",),
        booked=2,
        traced=LOOKING,
    ),
}
