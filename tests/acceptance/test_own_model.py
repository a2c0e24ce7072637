"""From a model of one's own to evidence, in three commands, against a running system; the model, trials and attack are
real."""

import json
import shutil
import signal
from collections.abc import Iterator

import pytest
import torch
from embedded_system import System
from transformers import AutoModelForCausalLM

from mudman import packaged, relearn
from mudman.bench import bench_for
from mudman.precision import computing
from mudman.results import Curve
from mudman.specs import StudySpec

SMALL = {
    "name": "mine",
    "budget.trials": 2,
    "budget.unlearn_passes": 20,
    "attack.passes": 8,
    "attack.check_every": 4,
    "batch.size": 2,
    "constraint.retain_loss_increase": 9,
}
CHANGES = [part for path, value in SMALL.items() for part in ("--set", f"{path}={value}")]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    system = System()
    process = system.start("up")
    try:
        system.endpoint(process)
        yield system
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        system.close()


def test_from_a_model_of_ones_own_to_evidence(system: System, tmp_path, monkeypatch):
    mine = system.state_dir / "mine"
    shutil.copytree(packaged.MODELS["tiny-llama"].path, mine)

    # What does not fit is said before anything is queued, by the folder and by the service alike.
    wrong = system.run("submit", "quickstart", "--model", str(mine), *CHANGES, "--set", "method.target_modules=[gate]")
    assert wrong.returncode == 2
    assert "no module of this model is named 'gate'" in wrong.stderr
    assert "gate_proj" in wrong.stderr
    elsewhere = system.run("submit", "quickstart", "--model", str(tmp_path), *CHANGES)
    assert (elsewhere.returncode, "outside the data root" in elsewhere.stderr) == (2, True)
    assert system.run("ls").stdout.startswith("no studies")

    submitted = system.run("submit", "quickstart", "--model", str(mine), *CHANGES)
    assert submitted.returncode == 0, submitted.stderr
    for said in ("llama, 1.32 million parameters in 4 layers", "modules: 4 match", "2 trials of up to 28 passes"):
        assert said in submitted.stderr
    watched = system.run("watch", "mine")
    assert watched.returncode == 0, watched.stderr
    folder = tmp_path / "unlearned"
    pulled = system.run("pull", "mine", str(folder), "--json")
    assert pulled.returncode == 0, pulled.stderr
    found = json.loads(pulled.stdout)
    assert (found["agreement"], found["difference"]) == ("bit-equal", 0)
    assert "bit for bit as the search recorded it" in (folder / "README.md").read_text()

    # The pulled weights, attacked here as the search attacked them: the same losses, to the last bit.
    best = json.loads(system.run("best", "mine", "--json").stdout)
    assert best["checkpoint"] == f"/studies/{best['study']}/checkpoints/{best['ordinal']}"
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(system.state_dir))
    torch.set_num_threads(1)
    spec = StudySpec.model_validate(json.loads((folder / "checkpoint.json").read_text())["spec"])
    bench, model = bench_for(spec), AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(spec.seeds.trial)
    with computing(spec.model, torch.device("cpu")):
        _, record = relearn(model, bench.attack_batches, spec.attack, evaluation=bench.evaluation)
    assert record.curve == Curve.model_validate(best["result"]["relearning"])
