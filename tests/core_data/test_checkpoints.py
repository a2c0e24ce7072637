"""Kept weights are those that were attacked, to the last bit, and the card says what was found."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from studies import NEOX, SMALL, small
from transformers import AutoModelForCausalLM, AutoTokenizer

from mudman import packaged, relearn, run_trial
from mudman.bench import bench_for
from mudman.checkpoints import TOLERANCE, Keeping, agreement, described, largest_difference
from mudman.precision import computing
from mudman.results import Outcome, TrialResult
from mudman.specs import parse
from mudman.specs.repeats import Recorded

CHOSEN = {"unlearning_rate": 0.003}
LORA = {"method.adversary": {"type": "lora", "rank": 2}, "method.adversary_rate": 0.01}


def recorded(result: TrialResult) -> Recorded:
    curve = result.relearning
    return Recorded(
        value=result.value, passes=curve.passes, forget_loss=curve.forget_loss, retain_loss=curve.retain_loss
    )


@pytest.mark.parametrize(
    "changes", [{}, NEOX, {"model.dtype": "bfloat16"}, LORA], ids=["llama", "neox", "bf16", "lora"]
)
def test_the_folder_holds_the_weights_that_were_attacked(changes, tmp_path):
    spec = small(changes)
    searched = run_trial(spec, CHOSEN)
    result = run_trial(spec, CHOSEN, keeping=Keeping(tmp_path, 7, recorded(searched)))
    kept = result.checkpoint
    assert (result.outcome, kept.agreement, kept.difference) == (Outcome.VALID, "bit-equal", 0)

    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    bench = bench_for(spec)
    assert model.dtype == bench.model.dtype
    torch.manual_seed(spec.seeds.trial)
    with computing(spec.model, torch.device("cpu")):  # products as the trial forms them
        _, record = relearn(model, bench.attack_batches, spec.attack, evaluation=bench.evaluation)
    assert record.curve == result.relearning

    # And nothing but them: the names are the original model's.
    bench.restore()
    fresh = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert fresh.keys() == bench.model.state_dict().keys()
    assert any(not torch.equal(fresh[name], weight) for name, weight in bench.model.state_dict().items())


@pytest.mark.parametrize("attack", [None, {"rank": 2}], ids=["whole", "adapters"])
def test_adapters_of_a_method_are_folded_into_the_weights(attack, tmp_path):
    method = {"type": "circuit_breakers", "target_modules": ["gate_proj"], "lora": {"rank": 2}}
    rates = {"unlearning_rate": {"low": 1e-5, "high": 1.0, "log": True}, "retaining_rate": 1e-2}
    spec = parse({**SMALL, "method": method | rates, "attack": SMALL["attack"] | {"lora": attack}})
    searched = run_trial(spec, CHOSEN)
    result = run_trial(spec, CHOSEN, keeping=Keeping(tmp_path, 7, recorded(searched)))
    assert (result.checkpoint.agreement, result.checkpoint.difference) == ("bit-equal", 0), "the model was left alone"

    (bench := bench_for(spec)).restore()
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.state_dict().keys() == bench.model.state_dict().keys()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "lora" in name]  # noqa: SIM118 - it cannot be iterated
    with computing(spec.model, torch.device("cpu")):
        kept = bench.evaluation.point(model, 0)
    assert kept.forget_loss == pytest.approx(result.forget_loss_unlearned, rel=1e-5)
    assert kept.retain_loss == pytest.approx(result.retain_loss_unlearned, rel=1e-5)
    assert abs(kept.forget_loss - bench.untouched.forget_loss) > 1e-3, "something was unlearned"
    assert "folded into these weights" in (tmp_path / "README.md").read_text()


def test_what_lies_beside_them(tmp_path):
    spec = small({"name": "to be kept"})
    searched = run_trial(spec, CHOSEN)
    result = run_trial(spec, CHOSEN, keeping=Keeping(tmp_path, 7, recorded(searched)))
    files = {file.name: file for file in result.checkpoint.files}
    assert {path.name for path in tmp_path.iterdir()} == files.keys()
    assert all(described(tmp_path / name) == file for name, file in files.items())
    assert not any(name.endswith((".bin", ".pt", ".pkl", ".py")) for name in files)
    texts = ["def f(x):\n    return x", "The"]
    assert AutoTokenizer.from_pretrained(tmp_path)(texts) == bench_for(spec).tokenizer(texts)

    manifest = json.loads((tmp_path / "checkpoint.json").read_text())
    assert manifest["hyperparameters"] == CHOSEN
    assert manifest["result"]["relearning"]["forget_loss"] == list(result.relearning.forget_loss)
    assert {file["name"] for file in manifest["files"]} == files.keys() - {"checkpoint.json"}
    card = (tmp_path / "README.md").read_text()
    assert "\nlicense: apache-2.0\n" in card
    assert "trial 7 of study `to be kept`" in card
    assert "bit for bit as the search recorded it" in card
    assert "  unlearning_rate: 0.003\n" in card
    for passes, forget, retain in zip(*vars(result.relearning).values(), strict=True):
        assert f"| {passes} | {forget:.4f} | {retain:.4f} | {forget:.4f} |" in card
    assert f"| this model, attacked | {result.forget_loss_min:.4f} | {result.retain_loss_final:.4f} |" in card
    assert f"| this model | {result.forget_loss_unlearned:.4f} |" in card
    assert "| forget | python-functions | sha256:" in card
    assert f"torch {torch.__version__}" in card


@pytest.mark.parametrize(("front", "said"), [
    ("---\nlicense: mit\n---\n# mine\n", "license: mit"),
    ("---\nlicense: [\n---\n# mine\n", "license: other"),
    ("# mine\n", "license: other"),
])  # fmt: skip
def test_the_licence_is_that_of_ones_own_model(front, said, tmp_path, monkeypatch):
    mine = Path(shutil.copytree(packaged.MODELS["tiny-llama"].path, tmp_path / "mine"))
    (mine / "README.md").write_text(front)
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    (folder := tmp_path / "kept").mkdir()
    assert run_trial(small({"model.id": str(mine)}), CHOSEN, keeping=Keeping(folder)).checkpoint.agreement == "unknown"
    assert f"\n{said}\n" in (folder / "README.md").read_text()


def test_a_trial_that_is_not_valid_keeps_nothing(tmp_path):
    spec = small({"constraint": {"retain_loss_increase": 1e-6, "check_every": 10}})
    result = run_trial(spec, {"unlearning_rate": 0.9}, keeping=Keeping(tmp_path))
    assert (result.outcome, result.checkpoint) == (Outcome.OVER_RETAIN_BUDGET, None)


def test_how_far_an_attack_is_from_what_was_recorded():
    found = run_trial(small(), CHOSEN)
    same = recorded(found)
    assert largest_difference(same, found) == 0
    off = same.model_copy(update={"retain_loss": (*same.retain_loss[:-1], same.retain_loss[-1] * 2)})
    assert largest_difference(off, found) == pytest.approx(0.5)
    assert largest_difference(same.model_copy(update={"value": same.value / 1.004}), found) == pytest.approx(0.004)
    for other in ({"passes": same.passes[1:]}, {"value": None}):
        assert largest_difference(same.model_copy(update=other), found) is None
    said = [agreement(one) for one in (None, 0.0, 1e-16, TOLERANCE, 1.01 * TOLERANCE)]
    assert said == ["unknown", "bit-equal", "within tolerance", "within tolerance", "differs"]
