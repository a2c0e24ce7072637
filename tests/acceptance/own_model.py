"""A model of one's own, a short study of it, and the attack on what was pulled."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from mudman import packaged, relearn
from mudman.bench import bench_for
from mudman.precision import computing
from mudman.results import Curve
from mudman.specs import StudySpec

_SHORT = {
    "name": "mine",
    "budget.trials": 2,
    "budget.unlearn_passes": 20,
    "attack.passes": 8,
    "attack.check_every": 4,
    "batch.size": 2,
    "constraint.retain_loss_increase": 9,
}
SHORT = [part for path, value in _SHORT.items() for part in ("--set", f"{path}={value}")]


def copied(folder: Path) -> str:
    return str(shutil.copytree(packaged.MODELS["tiny-llama"].path, folder))


def attacked_again(folder: Path) -> Curve:
    """As the trial attacked it, by what lies beside the weights; in one thread, as the trial had."""
    torch.set_num_threads(1)
    spec = StudySpec.model_validate(json.loads((folder / "checkpoint.json").read_text())["spec"])
    bench, model = bench_for(spec), AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(spec.seeds.trial)
    with computing(spec.model, torch.device("cpu")):
        _, record = relearn(model, bench.attack_batches, spec.attack, evaluation=bench.evaluation)
    return record.curve
