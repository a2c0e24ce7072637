"""What is found out before the first trial, and what is refused there."""

import hashlib

import pytest
import torch
from studies import NEOX, sentences, small, write_lines

import mudman
from mudman.bench import bench_for
from mudman.faults import FieldFault, SpecError
from mudman.preparation import prepare
from mudman.registry import model_place
from mudman.results import Outcome, Preparation


def fault_of(overrides: dict) -> FieldFault:
    with pytest.raises(SpecError) as caught:
        prepare(small(overrides))
    (fault,) = caught.value.faults
    assert fault.remedy
    return fault


@pytest.mark.parametrize(
    ("overrides", "module", "layers"),
    [({}, "mlp.gate_proj", "model.layers"), (NEOX, "mlp.dense_h_to_4h", "gpt_neox.layers")],
    ids=["llama", "neox"],
)
def test_the_untouched_model_is_measured(overrides, module, layers):
    preparation = prepare(small(overrides))
    trial = mudman.run_trial(small(overrides), {"unlearning_rate": 0.003})

    assert preparation.model_revision == "packaged"
    assert preparation.matched_modules == tuple(f"{layers}.{i}.{module}.weight" for i in range(4))
    assert preparation.intervened_parameters > 0
    assert preparation.initial_forget_loss == trial.unlearning.forget_loss[0]
    assert preparation.initial_retain_loss == trial.unlearning.retain_loss[0]
    assert preparation.baseline.outcome is Outcome.VALID
    assert preparation.baseline.relearning.passes == (0, 4, 8)
    assert preparation.baseline.relearning.forget_loss[0] == preparation.initial_forget_loss
    nothing = mudman.run_trial(small({**overrides, "method": {"type": "none"}, "constraint": None}), {})
    assert preparation.baseline.relearning == nothing.relearning
    for field in ("forget", "retain"):
        assert preparation.corpora[field]["texts"] == 2000
        assert preparation.corpora[field]["licence"]
        assert len(preparation.corpora[field]["tokens_sha256"]) == 64
    assert preparation.corpora["forget"] != preparation.corpora["retain"]
    weights = model_place(small(overrides).model).path / "model.safetensors"
    assert preparation.model_files["model.safetensors"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert {"config.json", "tokenizer.json"} <= preparation.model_files.keys()
    assert len(preparation.code["sha256"]) == 64
    assert preparation.hardware["cores"] >= 1
    assert set(preparation.versions) == {"python", "torch", "transformers", "datasets"}
    assert Preparation.model_validate_json(preparation.model_dump_json()) == preparation


def test_first_losses_are_the_trials_own_whoever_asked_for_the_bench(monkeypatch):
    monkeypatch.setattr("mudman.products.mkl_is_slow", lambda: True)  # here any machine forms products in two ways
    for seed in range(1509, 1515):  # the two agree in some of them
        spec = small({"seeds.data": seed})
        bench_for(spec)
        trial = mudman.run_trial(spec, {"unlearning_rate": 0.003})
        preparation = prepare(spec)
        assert preparation.initial_forget_loss == trial.unlearning.forget_loss[0]
        assert preparation.initial_forget_loss == preparation.baseline.relearning.forget_loss[0]


def test_is_the_same_each_time():
    first, again = (
        prepare(small()).model_dump(exclude={"seconds": True, "baseline": {"seconds", "log"}}) for _ in "ab"
    )
    assert first == again


def test_several_targets_are_counted_once():
    one, two, both = (
        prepare(small({"method.target_modules": targets})).intervened_parameters
        for targets in (["gate_proj"], ["mlp.up_proj"], ["gate_proj", "mlp.gate_proj", "up_proj"])
    )
    assert both == one + two


def test_a_study_without_unlearning_intervenes_nowhere():
    preparation = prepare(small({"method": {"type": "none"}}))
    assert (preparation.matched_modules, preparation.intervened_parameters) == ((), 0)
    assert preparation.baseline.outcome is Outcome.VALID


def test_modules_that_match_nothing():
    with pytest.raises(SpecError) as caught:
        prepare(small({"method.target_modules": ["gate_prj", "gate_proj", "dense"]}))
    assert [str(fault).split(". Remedy")[0] for fault in caught.value.faults] == [
        "method.target_modules: no module of this model is named 'dense'",
        "method.target_modules: no module of this model is named 'gate_prj'",
    ]
    assert "gate_proj" in caught.value.faults[0].remedy
    with pytest.raises(SpecError, match=r"method\.target_modules"):
        mudman.run_trial(small({"method.target_modules": ["dense"]}), {"unlearning_rate": 0.1})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ({"type": "neuron_ablation", "target_modules": ["gate_proj"]}, "method.target_modules"),
        ({"type": "circuit_breakers", "target_modules": ["gate_proj"], "layer": 99, "unlearning_rate": 1.0},
         "method.layer"),
        ({"type": "mudman", "target_modules": ["gate_proj"], "unlearning_rate": 1.0, "backward": "misalign"},
         "method.backward"),
    ],
    ids=["neuron_ablation", "circuit_breakers", "misalign"],
)  # fmt: skip
def test_a_method_that_does_not_fit_the_model_is_refused_before_any_trial(method, path):
    with pytest.raises(SpecError) as caught:
        prepare(small({"method": method}))
    assert [fault.path for fault in caught.value.faults] == [path]


def test_an_attack_that_breaks_the_untouched_model():
    assert str(fault_of({"attack.rate": 1e30})).startswith("attack.rate: the attack diverges on the untouched model")


def test_corpora_that_are_too_short_for_the_budget():
    with pytest.raises(SpecError) as caught:
        prepare(small({"batch.size": 64, "budget.unlearn_passes": 500}))
    assert [fault.path for fault in caught.value.faults] == ["forget.corpus", "retain.corpus"]
    assert all("the budget needs 100" in fault.message for fault in caught.value.faults)


def test_the_attack_of_a_long_budget_needs_texts_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    write_lines(tmp_path / "few.jsonl", sentences(20))
    fault = fault_of({"forget": {"corpus": "./few.jsonl"}, "budget.unlearn_passes": 5})
    assert "validation split gives 2 batches" in fault.message
    prepare(small({"forget": {"corpus": "./few.jsonl", "repeat": True}, "budget.unlearn_passes": 5}))


def test_more_tokens_than_the_model_takes():
    fault = fault_of({"batch.length": 100_000})
    assert (fault.path, fault.remedy.split()[:3]) == ("batch.length", ["take", "at", "most"])


def test_all_faults_are_told_at_once():
    wrong = {"batch.length": 100_000, "method.target_modules": ["dense"], "forget.column": "code", "retain.split": "x"}
    with pytest.raises(SpecError) as caught:
        prepare(small(wrong))
    paths = [fault.path for fault in caught.value.faults]
    assert paths == ["batch.length", "method.target_modules", "forget.column", "retain.split"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_where_there_is_none():
    fault = fault_of({"resources.gpus": 0.5})
    assert fault.path == "resources.gpus"
    assert "resources.gpus: 0" in fault.remedy


@pytest.mark.parametrize(
    ("overrides", "path"),
    [({"model.id": "./missing"}, "model.id"), ({"retain.corpus": "wikpedia"}, "retain.corpus"),
     ({"forget.column": "code"}, "forget.column")],
)  # fmt: skip
def test_sources_that_are_not_there(overrides, path):
    assert fault_of(overrides).path == path


def test_a_simulated_study_is_prepared_without_anything():
    assert prepare(small({"model.id": "simulated"})).model_revision == "simulated"
