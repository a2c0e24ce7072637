"""Every wrong field of a study is named, with its remedy."""

import math

import pytest
from small_spec import faults_of

BAD = [
    # overrides of the small study -> paths of the faults, words of the message or remedy
    ({"method.adversry": {}}, ["method.adversry"], "did you mean 'adversary'"),
    ({"method.adversary": {"gradent": "reuse"}}, ["method.adversary.gradent"], "did you mean 'gradient'"),
    ({"zzzzzz": 1}, ["zzzzzz"], "remove it"),
    ({"method.retain_weight": 1}, ["method.retain_weight"], "'growing_weights'"),  # never itself
    (
        {"method.unlearning_rate": {"low": 2.0, "high": 1.0}},
        ["method.unlearning_rate"],
        "low (2) must be below high (1)",
    ),
    ({"method.unlearning_rate": {"low": 1.0, "high": 1.0}}, ["method.unlearning_rate"], "give the number"),
    ({"method.unlearning_rate": {"low": 0, "high": 1, "log": True}}, ["method.unlearning_rate"], "take low > 0"),
    ({"method.unlearning_rate": {"low": -1, "high": 1, "log": True}}, ["method.unlearning_rate"], "take low > 0"),
    ({"method.unlearning_rate": {"low": 0.1}}, ["method.unlearning_rate.high"], "add this field"),
    ({"method.unlearning_rate": {"low": 0, "high": 1, "logg": True}}, ["method.unlearning_rate.logg"], "'log'"),
    ({"method.unlearning_rate": {"low": 0, "high": math.inf}}, ["method.unlearning_rate.high"], "finite"),
    ({"method.unlearning_rate": {"low": True, "high": 2}}, ["method.unlearning_rate.low"], "number"),
    ({"method.unlearning_rate": math.nan}, ["method.unlearning_rate"], "finite"),
    ({"method.unlearning_rate": -0.1}, ["method.unlearning_rate"], "at least 0"),
    ({"method.unlearning_rate": "fast"}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": "0.1"}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": True}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": [1, 2]}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": None}, ["method.unlearning_rate"], "give a number, or a range"),
    ({"method.unlearning_rate": 10**400}, ["method.unlearning_rate"], "number"),
    ({"method.retaining_rate": {"low": -1, "high": 1}}, ["method.retaining_rate.low"], "at least 0, in place of -1"),
    ({"method.retain_momentum": 1.5}, ["method.retain_momentum"], "between 0 and 1"),
    ({"method.retain_momentum": {"low": 0.5, "high": 1.1}}, ["method.retain_momentum.high"], "between 0 and 1"),
    ({"method.adversary": {"decay": -0.1}}, ["method.adversary.decay"], "between 0 and 1"),
    ({"method.fork_every": 0}, ["method.fork_every"], "at least 1"),
    ({"method.fork_every": {"low": 1.5, "high": 3, "int": True}}, ["method.fork_every"], "whole numbers"),
    ({"method.adversary": {"type": "lore"}}, ["method.adversary.type"], "'none', 'fork' or 'lora'"),
    ({"method.loss": "correct"}, ["method.loss"], "one of 'neg_cross_entropy', 'neg_entropy', 'correct_logit'"),
    ({"method.loss": {"type": "correct"}}, ["method.loss.type"], "one of 'neg_cross_entropy'"),
    ({"method.loss": {"type": "correct_logit", "clap": 1}}, ["method.loss.clap"], "did you mean 'clip'?"),
    ({"method.loss": {"clip": 1}}, ["method.loss.type"], "add this field"),
    ({"method.mask": {"type": "percentile", "retain_quantile": 2}}, ["method.mask.retain_quantile"], "between 0 and 1"),
    ({"method.adversary": {"type": "lora", "update": 0.5}}, ["method.adversary.update"], "leave adversary.update at 0"),
    (
        {"method.adversary": {"gradient": "reuse"}, "method.backward": "fading"},
        ["method.adversary.gradient"],
        "take adversary.gradient: hybrid or fresh",
    ),
    (
        {"method.mask": "agem", "method.normalization": "per_parameter"},
        ["method.normalization"],
        "does not combine with mask: agem",
    ),
    (
        {"method.mask": "agem", "method.growing_weights": 0.5},
        ["method.growing_weights"],
        "leave growing_weights at 1",
    ),
    ({"method.backward": {"type": "fading", "mlp": False}}, ["method.backward"], "fades nothing"),
    ({"method.mask": "percentile"}, ["budget.unlearn_passes"], "unlearns nothing in its first 20"),
    (
        {
            "method": {
                "type": "static_circuit",
                "target_modules": ["a"],
                "unlearning_rate": 1.0,
                "locate_loops": 1,
                "circuits": [{"loss": "neg_entropy"}, {"loss": "correct_logit"}],
            }
        },
        ["method.locate_loops"],
        "cannot locate 2 circuits",
    ),
    ({"constraint": {"retain_loss_increase": 0.1, "pause_at": 0.1}}, ["constraint.pause_at"], "must lie below"),
    ({"constraint": {"kl": 0}}, ["constraint.kl"], "greater than 0"),
    ({"constraint": {"mmlu_drop": 0.01}}, ["evaluations"], "exactly one evaluation of type multiple_choice"),
    (
        {"objective": {"metric": "wmdp_accuracy", "direction": "minimize", "reduce": "final"}},
        ["evaluations"],
        "with measures: forget",
    ),
    ({"objective": {"direction": "minimize"}}, ["objective"], "forget_loss goes with direction: maximize"),
    ({"evaluations": ["cloze", "clozes"]}, ["evaluations.1"], "'kl', 'multiple_choice'"),
    (
        {
            "method": {"type": "gradient_ascent", "target_modules": ["a"], "unlearning_rate": 1.0},
            "constraint": {"retain_loss_increase": 0.1, "pause_at": 0.05},
        },
        ["constraint.pause_at"],
        "no retain step",
    ),
    (
        {
            "method": {"type": "tar", "target_modules": ["a"], "inner_steps": 3, "hue": 1},
            "budget.unlearn_passes": 12,
        },
        ["budget.unlearn_passes", "method.hue"],
        "take 11 or 22",
    ),
    ({"method.target_modules": "gate_proj"}, ["method.target_modules"], "give a list: [gate_proj]"),
    ({"method.target_modules": []}, ["method.target_modules"], "at least 1"),
    ({"method.target_modules": ["a", 3]}, ["method.target_modules.1"], "string"),
    ({"method": {"type": "mudmann"}}, ["method.type"], "one of 'mudman', 'gradient_ascent'"),
    ({"method": {"type": ["mudman"]}}, ["method.type"], "one of 'mudman', 'gradient_ascent'"),
    ({"method": "mudman"}, ["method"], "mapping"),
    ({"attack.type": "lora"}, ["attack.type"], "'relearn'"),
    ({"attack.rate": 0}, ["attack.rate"], "greater than 0"),
    ({"attack.rate": 0}, ["attack.rate"], "give a number above 0, in place of 0"),
    ({"budget.trials": 0}, ["budget.trials"], "give a number of at least 1, in place of 0"),
    ({"seeds": {"data": 2**32}}, ["seeds.data"], "give a number below 4294967296"),
    ({"labels": {"version": 1}}, ["labels.version"], "give text in place of 1, in quotes"),
    ({"method.retain_momentum": 1.5}, ["method.retain_momentum"], "between 0 and 1, in place of 1.5"),
    ({"attack.passes": 0}, ["attack.passes"], "greater than or equal to 2"),
    ({"attack.passes": 5}, ["attack.passes"], "take 4 or 6"),
    ({"attack": {"rate": 0.1, "passes": 6, "retain": True}}, ["attack.passes"], "take 4 or 8"),
    ({"budget.trials": 0}, ["budget.trials"], "greater than or equal to 1"),
    ({"budget.trials": True}, ["budget.trials"], "whole number in place of True"),
    ({"budget.trials": 2.5}, ["budget.trials"], "whole number in place of 2.5"),
    ({"budget.trials": "2"}, ["budget.trials"], "whole number in place of '2'"),
    ({"budget.unlearn_passes": 11}, ["budget.unlearn_passes"], "take 10 or 15"),
    ({"budget.unlearn_passes": 3}, ["budget.unlearn_passes"], "take 5"),
    ({"budget.unlearn_passes": -5}, ["budget.unlearn_passes"], "greater than or equal to 0"),
    ({"budget.unlearn_passes": 10**400}, ["budget.unlearn_passes"], "less than or equal to 1000000000"),
    ({"method.adversary": {"type": "none"}, "budget.unlearn_passes": 10}, ["budget.unlearn_passes"], "take 8 or 12"),
    ({"constraint": {"retain_loss_increase": -0.1}}, ["constraint.retain_loss_increase"], "greater than or equal to 0"),
    ({"constraint": {}}, ["constraint"], "give retain_loss_increase, kl"),
    ({"resources": {"gpus": 1.5}}, ["resources.gpus"], "whole cards"),
    ({"resources": {"gpus": -1}}, ["resources.gpus"], "greater than or equal to 0"),
    ({"resources": {"cpus": 0}}, ["resources.cpus"], "greater than 0"),
    ({"seeds": {"data": -1}}, ["seeds.data"], "greater than or equal to 0"),
    ({"seeds": {"trial": 2**32}}, ["seeds.trial"], "less than"),
    ({"name": ""}, ["name"], "at least 1 character"),
    ({"name": "a\x00b"}, ["name"], "pattern"),
    ({"name": "\ud800"}, ["name"], "unicode"),
    ({"name": "x" * 201}, ["name"], "at most 200"),
    ({"labels": {"version": 1}}, ["labels.version"], "string"),
    ({"batch": {"length": 1}}, ["batch.length"], "greater than or equal to 2"),
    ({"model.dtype": "float16"}, ["model.dtype"], "'float32' or 'bfloat16'"),
    ({"model": None}, ["model"], "mapping"),
    ({"forget": "python-functions"}, ["forget"], "mapping"),
    (
        {"budget": {"unlearn_passes": 11, "trials": 0}, "attack.passes": 3, "method.mask": "sing", "colour": "red"},
        ["attack.passes", "budget.trials", "budget.unlearn_passes", "colour", "method.mask"],
        "take 2 or 4",
    ),
    (
        {"model.id": 3, "method.unlearning_rate": {"low": 2, "high": 1}, "seeds.data": "x", "attack.rate": None},
        ["attack.rate", "method.unlearning_rate", "model.id", "seeds.data"],
        "must be below high",
    ),
    ({"budget.unlearn_passes": 11, "attack.passes": 5}, ["attack.passes", "budget.unlearn_passes"], "take 4 or 6"),
    ({"sampler": "anneal"}, ["sampler"], "one of 'tpe', 'random', 'grid', 'cmaes' or 'gp'"),
    ({"sampler": {"type": "cmaes", "population": 2}}, ["sampler.population"], "at least 3"),
    (
        {"method.unlearning_rate": {"low": 0, "high": 1}, "sampler": "grid", "budget.trials": 6},
        ["budget.trials"],
        "is more than the 5 points of the grid. Remedy: take 5 at most, or more sampler.points",
    ),
    (
        {
            "method.unlearning_rate": {"low": 0, "high": 1},
            "sampler": {"type": "grid", "points": {"rate": 3}},
            "budget.trials": 1,
        },
        ["sampler.points.rate"],
        "one of unlearning_rate",
    ),
    ({"pruner": "hyperband"}, ["pruner"], "one of 'median', 'percentile', 'successive_halving', 'threshold'"),
    ({"pruner": "threshold"}, ["pruner.lower"], "add this field"),
    ({"pruner": {"type": "median", "percentile": 3}}, ["pruner.percentile"], "remove"),
]


@pytest.mark.parametrize(("overrides", "paths", "words"), BAD, ids=lambda value: None)
def test_every_wrong_field_is_named_with_its_remedy(overrides, paths, words):
    faults = faults_of(overrides)

    assert sorted(fault.path for fault in faults) == paths
    assert all(fault.message and fault.remedy for fault in faults)
    assert words in "\n".join(map(str, faults))
    assert "\n".join(map(str, faults)).encode()  # can be written out
