"""A sample of every way of running a method: what the contract (test_contract.py) is checked on."""

from dataclasses import dataclass, field

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
    unbooked: int = 0
    """Passes a loop makes beyond those it books, as the published accounting has it."""
    adapters_stay: bool = False

    def spec(self, **changes) -> dict:
        return {"target_modules": list(self.targets), **self.settings, **changes}


SAMPLES = {
    "mudman": Sample({**MUDMAN, "forget_momentum": 0.5}),
    "mudman, no adversary": Sample({**MUDMAN, "adversary": {"type": "none"}}),
    "mudman, fresh": Sample({**MUDMAN, "adversary": {"gradient": "fresh", "decay": 0.9, "update": 0.5}}, unbooked=1),
    "mudman, reuse": Sample({**MUDMAN, "adversary": {"gradient": "reuse"}, "loss": "correct_logit"}),
    "mudman, adapters": Sample({**MUDMAN, "fork_every": 4, "adversary": {"type": "lora", "amount": 2, "rank": 2}}),
    "mudman, several adversaries": Sample({**MUDMAN, "fork_every": 4, "adversary": {"amount": 2}}),
    "mudman, representations": Sample({**MUDMAN, "representation_loss": {}, "revert_below": 1e-4}),
    "mudman, elastic": Sample({**MUDMAN, "ewc": {}, "consensus_power": 2.0, "forget_momentum": 0.5}),
    "mudman, percentiles": Sample({**MUDMAN, "mask": {"type": "percentile", "warm_up": 1}, "growing_weights": 0.5}),
    "mudman, agem": Sample({**MUDMAN, "mask": "agem"}),
    "mudman, absolute": Sample({**MUDMAN, "mask": "absolute", "normalization": "global_post_mask"}),
    "mudman, compromise": Sample({**MUDMAN, "mask": "compromise", "normalization": "per_parameter"}),
    "mudman, tweaked": Sample({**MUDMAN, "backward": {"type": "tweak_first", "place": "residual"}}),
    "mudman, deactivating": Sample({**MUDMAN, "loss": "stream_activation", "backward": "fading"}),
    "gradient_ascent": Sample({"type": "gradient_ascent", "unlearning_rate": 0.02}, {"unlearning_rate": 0.0}, None),
    "gradient_difference": Sample(
        {"type": "gradient_difference", "unlearning_rate": 0.02}, {"unlearning_rate": 0.0}, {"retain_weight": 0.0}
    ),
    "circuit_breakers": Sample({"type": "circuit_breakers", **RATES}, unbooked=1),
    "circuit_breakers, adapters": Sample(
        {"type": "circuit_breakers", **RATES, "lora": {"rank": 2}}, unbooked=1, adapters_stay=True
    ),
    "nested": Sample(NESTED),
    "nested, second order": Sample({**NESTED, "order": "second", "adversaries": 1}),
    "tar": Sample(TAR, {"unlearning_rate": 0.0}, {"retain_scale": 0.0}),
    "tar, random mapping": Sample(
        {**TAR, "random_mapping": {"loops": 2, "rate": 0.01}},
        {"unlearning_rate": 0.0, "random_mapping": {"loops": 2, "rate": 0.0}},
        {"retain_scale": 0.0, "random_mapping": {"loops": 2, "rate": 0.0}},
    ),
    "random_mapping": Sample({"type": "random_mapping", **RATES}),
    "static_circuit": Sample({"type": "static_circuit", **RATES, "locate_loops": 2}),
    "static_circuit, two": Sample(
        {
            "type": "static_circuit",
            **RATES,
            "locate_loops": 3,
            "circuits": [{"loss": "stream_activation"}, {"loss": "neg_entropy", "strength": 0.5}],
        }
    ),
    "neuron_ablation": Sample({"type": "neuron_ablation", "share": 0.1}, {"factor": 1.0}, None, ("group:down",)),
    "weight_ablation": Sample({"type": "weight_ablation", "ratio": 2.0}, {"factor": 1.0}, None, ("group:all_linear",)),
    "weight_ablation, activation": Sample(
        {"type": "weight_ablation", "importance": "activation", "ratio": 2.0},
        {"factor": 1.0},
        None,
        ("group:gate", "group:up"),
        ("llama",),
    ),
}
