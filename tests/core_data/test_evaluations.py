"""Evaluations: protocols by hand, independence of batching and order, numbers of the packaged models."""

import json
import math
import sys

import pytest
import torch
from evaluated_models import QUESTIONS, Bigram, write_questions
from studies import small

from mudman.bench import bench_for
from mudman.evals.batched import logits_at, padded_batches
from mudman.evals.cloze import Cloze
from mudman.evals.evaluators import evaluator
from mudman.evals.harness import Harness
from mudman.evals.kl import Kl, divergence
from mudman.evals.multiple_choice import MultipleChoice, letter_ids, letter_probabilities, prompt, scores
from mudman.faults import SpecError
from mudman.models import load_model
from mudman.specs import ModelSpec
from mudman.specs.evaluations import ClozeEvaluation, HarnessEvaluation, KlEvaluation, MultipleChoiceEvaluation


@pytest.fixture(scope="module")
def llama():
    return load_model(ModelSpec(id="tiny-llama"), torch.device("cpu"))


@pytest.fixture(scope="module")
def neox():
    return load_model(ModelSpec(id="tiny-neox"), torch.device("cpu"))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MUDMAN_DATA_ROOT", str(tmp_path))
    return tmp_path


def choices(questions: str, **settings) -> MultipleChoiceEvaluation:
    return MultipleChoiceEvaluation(type="multiple_choice", questions=questions, measures="utility", **settings)


def answering(tokenizer, letters: list[float], dtype=torch.float32) -> Bigram:
    """After the prompt's last token the letters have these probabilities, and one other token the rest."""
    table = torch.full((len(tokenizer), len(tokenizer)), -math.inf)
    colon = tokenizer("Answer:")["input_ids"][-1]
    table[colon, letter_ids(tokenizer, "")] = torch.tensor(letters).log()
    table[colon, 0] = math.log(1 - sum(letters))
    return Bigram(table.to(dtype))


class TestMultipleChoice:
    def test_the_prompt(self, llama):
        from mudman.data.questions import Question

        question = Question("  What is it?\n", ("this", "that", "both", "neither"), 2, "")
        assert prompt(question) == "What is it?\nA. this\nB. that\nC. both\nD. neither\nAnswer:"

    @pytest.mark.parametrize(
        ("temperature", "value"),
        [(0, 2 / 4), (1, (0.2 + 0.3 + 0.4 + 0.4) / 4)],  # right letters: A, B, D, D; D is the likeliest
    )
    def test_scores_by_hand(self, llama, root, temperature, value):
        model = answering(llama.tokenizer, [0.10, 0.15, 0.05, 0.20])  # renormalised: .2 .3 .1 .4
        spec = choices(write_questions(root), temperature=temperature)
        (measured,) = MultipleChoice(spec, "evaluations.0", model, llama.tokenizer).measure("unlearned")

        assert measured.value == pytest.approx(value)
        assert (measured.name, measured.protocol, measured.when, measured.n) == (
            "./questions",
            "published",
            "unlearned",
            4,
        )
        assert "36241eb" in measured.version
        assert measured.settings["temperature"] == temperature
        assert measured.settings["measures"] == "utility"
        if temperature == 0:  # hits 0 0 1 1: deviation √(1/3), over √4
            assert measured.standard_error == pytest.approx(math.sqrt(1 / 3) / 2)

    def test_a_softmax_over_everything_renormalised_is_one_over_the_letters(self):
        logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
        letters = [7, 3, 150, 299]
        torch.testing.assert_close(letter_probabilities(logits, letters), logits[:, letters].softmax(-1))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_letters_that_all_vanish_beside_another_token_still_have_probabilities(self, dtype):
        logits = torch.tensor([[0.0, 1.0, 3.0, 0.0, 400.0]], dtype=dtype)
        found = letter_probabilities(logits, [0, 1, 2, 3])
        torch.testing.assert_close(found, logits[:, :4].softmax(-1))
        assert scores(found, torch.tensor([2]), 0).item() == 1

    def test_in_bfloat16_near_logits_are_ties_and_the_first_wins(self):
        logits = torch.tensor([[9.0, 20.00, 20.03, 9.0, 1.0]])
        letters, answer = [0, 1, 2, 3], torch.tensor([2])
        assert scores(letter_probabilities(logits, letters), answer, 0).item() == 1
        rounded = letter_probabilities(logits.bfloat16(), letters)
        assert rounded.dtype == torch.bfloat16
        assert scores(rounded, answer, 0).item() == 0
        assert scores(rounded, torch.tensor([1]), 0).item() == 1

    @pytest.mark.parametrize("which", ["llama", "neox"])
    def test_batches_padding_and_order_change_nothing(self, which, root, request):
        loaded = request.getfixturevalue(which)
        together = MultipleChoice(choices(write_questions(root)), "", loaded.model, loaded.tokenizer).probabilities()
        folder = write_questions(root, QUESTIONS[::-1], "reversed")
        backwards = MultipleChoice(choices(folder), "", loaded.model, loaded.tokenizer).probabilities()
        torch.testing.assert_close(backwards.flip(0), together)

        letters = letter_ids(loaded.tokenizer, "")
        for question, found in zip(QUESTIONS, together, strict=True):
            lines = [question["question"].strip(), "A. 0", "B. 1", "C. 2", "D. 3", "Answer:"]
            tokens = torch.tensor([loaded.tokenizer("\n".join(lines))["input_ids"]])
            with torch.no_grad():
                alone = loaded.model.eval()(input_ids=tokens).logits[0, -1, letters].softmax(-1)
            torch.testing.assert_close(found, alone)

    def test_a_limit_takes_the_first_questions(self, llama, root):
        spec = choices(write_questions(root), limit=2)
        (measured,) = MultipleChoice(
            spec, "", answering(llama.tokenizer, [0.4, 0.1, 0.1, 0.1]), llama.tokenizer
        ).measure("untouched")
        assert (measured.value, measured.n) == (0.5, 2)

    def test_letters_of_several_tokens_are_refused(self):
        class Spelling:
            unk_token_id = None

            def __call__(self, text, add_special_tokens):
                return {"input_ids": [ord(letter) for letter in text]}

        with pytest.raises(SpecError, match=r"evaluations\.0: .*no single token .*Remedy: take lm_eval, or the cloze"):
            letter_ids(Spelling(), "evaluations.0")

    def test_questions_longer_than_the_model_are_refused(self, llama, root):
        long = [QUESTIONS[0] | {"question": "why " * 300}]
        with pytest.raises(SpecError, match=r"evaluations\.1\.questions: the longest .* the model takes 256"):
            MultipleChoice(choices(write_questions(root, long)), "evaluations.1", llama.model, llama.tokenizer)


class TestBatches:
    def test_hold_every_text_once_within_the_budget(self):
        texts = [[1] * length for length in (9, 2, 5, 30, 2, 7, 1)]
        batches = list(padded_batches(texts, 0, budget=14))
        assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(7))
        for batch in batches:
            assert batch.tokens.numel() <= 14 or len(batch.tokens) == 1
            assert batch.mask.sum(-1).tolist() == [len(texts[i]) for i in batch.indices.tolist()]
            assert torch.equal(batch.tokens, batch.mask)  # ones, padded with zeros

    def test_logits_are_those_of_the_whole_forward(self, llama):
        (batch,) = padded_batches([[5, 6, 7], [8, 9]], 0)
        rows, columns = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2])
        with torch.no_grad():
            whole = llama.model.eval()(input_ids=batch.tokens, attention_mask=batch.mask).logits
        torch.testing.assert_close(logits_at(llama.model, batch, rows, columns), whole[rows, columns])
        assert not llama.model.get_output_embeddings()._forward_pre_hooks


class TestCloze:
    def test_likelihoods_by_hand(self, llama):
        cloze = Cloze(ClozeEvaluation(type="cloze", limit=2), "", llama.model, llama.tokenizer)
        from mudman.data.questions import read_questions

        question = read_questions("gene-ontology-cloze", "").records[1]
        context = llama.tokenizer(f"{question.question.strip().removesuffix(':')}:")["input_ids"]
        for choice, found in zip(question.choices, cloze.likelihoods()[1], strict=True):
            whole = llama.tokenizer(f"{question.question.strip().removesuffix(':')}: {choice.strip()}")["input_ids"][
                :256
            ]
            with torch.no_grad():
                logs = llama.model.eval()(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
            each = [logs[i - 1, whole[i]] for i in range(len(context), len(whole))]
            torch.testing.assert_close(found, torch.stack(each).mean())

    @pytest.mark.parametrize("which", ["llama", "neox"])
    def test_a_packaged_model_does_better_than_guessing(self, which, request):
        loaded = request.getfixturevalue(which)
        spec = ClozeEvaluation(type="cloze", limit=60)
        (measured,) = Cloze(spec, "", loaded.model, loaded.tokenizer).measure("untouched")
        assert (measured.name, measured.protocol, measured.n) == ("gene-ontology-cloze", "cloze", 60)
        assert measured.value > 0.25 + 3 * measured.standard_error

    def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(self, llama, monkeypatch):
        """Every answer would score 0, and the first one win."""
        monkeypatch.setattr("mudman.evals.cloze.longest_input", lambda model: 4)
        spec = ClozeEvaluation(type="cloze", limit=60)
        with pytest.raises(SpecError, match=r"evaluations\.1\.questions: the longest prompt .* the model takes 4"):
            Cloze(spec, "evaluations.1", llama.model, llama.tokenizer)


class TestKl:
    def test_by_hand(self):
        original, now = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.8, 0.1, 0.1]).log()
        assert divergence(original, now).item() == pytest.approx(0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.1))

    def test_of_two_models(self):
        table = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
        model = Bigram(table)
        kl = Kl(model, [torch.tensor([[0, 0, 1], [0, 1, 1]])])
        assert kl.measure("untouched")[0].value == 0
        with torch.no_grad():
            model.table[1] = torch.tensor([0.6, 0.4]).log()
        (measured,) = kl.measure("attacked")
        each = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)  # at token 1; the last token predicts nothing
        assert measured.value == pytest.approx(each / 4)
        assert (measured.n, measured.when, measured.protocol) == (4, "attacked", "kl")
        assert measured.standard_error == pytest.approx(each / 4)  # sequences: 0 and each / 2

    def test_bfloat16_is_computed_in_float32(self):
        logits = torch.randn(3, 5, 40).bfloat16()
        assert divergence(logits, logits).dtype == torch.float32


class TestHarness:
    def task(self, folder):
        from lm_eval.tasks import TaskManager

        lines = [
            {"q": f"def f{i}(x):", "c": ["\n    return x", " zebra!! qq", "; ; ; ;"], "a": i % 2} for i in range(6)
        ]
        (folder / "lines.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "toy.yaml").write_text(
            f"task: toy_choice\ndataset_path: json\ndataset_kwargs: {{data_files: {folder}/lines.json}}\n"
            "output_type: multiple_choice\ntest_split: train\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{c}}'\n"
            "doc_to_target: a\nmetric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
            "metadata: {version: 3.0}\n"
        )
        return TaskManager(include_path=str(folder), include_defaults=False)

    def test_a_local_task(self, llama, tmp_path, monkeypatch):
        pytest.importorskip("lm_eval")
        monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
        spec = HarnessEvaluation(type="lm_eval", tasks=("toy_choice",), limit=4)
        harness = Harness(spec, "evaluations.0", llama.model, llama.tokenizer, self.task(tmp_path))
        random_numbers = torch.get_rng_state()
        (measured,) = harness.measure("untouched")

        assert (measured.name, measured.protocol, measured.n) == ("lm_eval/toy_choice/acc", "lm-evaluation-harness", 4)
        assert measured.value == 0.5  # the model takes the first choice, which is right every other time
        assert measured.version.endswith("task version 3.0")
        assert measured.settings == {"few_shot": 0, "limit": 4, "filter": "none"}
        assert torch.equal(torch.get_rng_state(), random_numbers)
        assert harness.measure("untouched") == (measured,)
        with pytest.raises(SpecError, match=r"evaluations\.2\.tasks\.0: .*no task 'toy_choise'.*toy_choice"):
            Harness(
                HarnessEvaluation(type="lm_eval", tasks=("toy_choise",)), "evaluations.2", llama.model, llama.tokenizer,
                self.task(tmp_path),
            )  # fmt: skip

    @pytest.mark.parametrize("package", ["lm_eval", "accelerate"])
    def test_without_the_package(self, llama, monkeypatch, package):
        for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        spec = HarnessEvaluation(type="lm_eval", tasks=("wmdp_bio",))
        with pytest.raises(SpecError, match=r"evaluations\.0: .*not installed.*mudman\[harness\]"):
            evaluator(spec, "evaluations.0", llama.model, llama.tokenizer, [])


def test_a_bench_measures_the_untouched_model_once():
    bench = bench_for(small())
    bench.restore()
    kl = KlEvaluation(type="kl")
    first = bench.evaluated(kl, "evaluations.0")
    assert first.untouched[0].value == 0
    other = bench_for(small({"budget.unlearn_passes": 40}))  # more training batches, the same held-out ones
    assert other.evaluated(kl, "evaluations.0") is first
    elsewhere = bench_for(small({"seeds.data": 7}))
    elsewhere.restore()
    assert elsewhere.evaluated(kl, "evaluations.0") is not first
