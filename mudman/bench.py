"""What stays in a worker between trials: the model, a snapshot of its weights, token batches, the first losses."""

import gc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mudman.data.cache import hash_of
from mudman.data.tokens import TokenBatches, token_batches
from mudman.engine import Evaluation
from mudman.evals.evaluators import Evaluator, evaluator
from mudman.faults import SpecError, checked
from mudman.lora import detach_all
from mudman.models import LoadedModel, load_model, longest_input
from mudman.modules import matching_weights
from mudman.original import OriginalStates
from mudman.precision import computing
from mudman.results import Measurement, Point
from mudman.sizes import is_large
from mudman.specs import NoUnlearning, StudySpec
from mudman.specs.evaluations import Evaluation as EvaluationSpec
from mudman.specs.evaluations import KlEvaluation

# One model per process, its benches and its evaluations: a worker serves studies that share model and texts.
_loaded: dict[tuple, LoadedModel] = {}
_benches: dict[tuple, "Bench"] = {}
_evaluated: dict[tuple, "Evaluated"] = {}


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of a bench's model."""

    evaluator: Evaluator
    untouched: tuple[Measurement, ...]
    """The numbers of the untouched model."""


@dataclass(frozen=True)
class Bench:
    """Everything the trials of one study work on."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str
    folder: Path
    """Of the model's files."""
    forget: TokenBatches
    retain: TokenBatches
    attack: TokenBatches | None
    """Texts of the attack's own, where it has them: their training part."""
    evaluation: Evaluation
    snapshot: tuple[torch.Tensor, ...]
    untouched: Point
    """Losses of the untouched model, in the dtype of the trials."""
    original: OriginalStates
    """Its hidden states on the batches of the unlearning, as trials come to need them."""

    @property
    def attack_batches(self) -> torch.Tensor:
        """What the attack trains on: LongTensor [batches, size, length]."""
        return self.forget.attack if self.attack is None else self.attack.training

    @torch.no_grad()
    def restore(self) -> None:
        """Puts every weight back to the untouched model's; adapters go."""
        detach_all(self.model)
        torch._foreach_copy_(list(self.model.parameters()), list(self.snapshot))

    def evaluated(self, spec: EvaluationSpec, path: str) -> Evaluated:
        """The evaluation with its untouched numbers, kept from an earlier call; the model must be untouched now.

        Raises ``SpecError`` at ``path`` where it cannot be had.
        """
        key = (spec, hash_of((self.retain.evaluation,)) if isinstance(spec, KlEvaluation) else None)
        if key not in _evaluated:
            made = evaluator(spec, path, self.model, self.tokenizer, self.evaluation.retain)
            _evaluated[key] = Evaluated(made, made.measure("untouched"))
        return _evaluated[key]


def device_for(spec: StudySpec) -> torch.device:
    """Raises ``SpecError`` when a GPU is asked for and none is there."""
    if not spec.resources.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SpecError.at(
            "resources.gpus",
            f"asks for {spec.resources.gpus:g} and this machine shows no GPU",
            "set resources.gpus: 0, or run where CUDA is available",
        )
    return torch.device("cuda")


def give_back_memory() -> None:
    """What torch keeps of a card beyond the tensors there are: others may share the card, and lack it."""
    if torch.cuda.is_initialized():
        gc.collect()
        with suppress(RuntimeError):  # of a card that has failed, which the next call says too
            torch.cuda.empty_cache()


def bench_for(spec: StudySpec) -> Bench:
    """The bench of a study, kept from an earlier call where it fits; its model is as the last trial left it.

    Raises ``SpecError`` with the faults of the model, else with those of length, modules and texts all at once.
    """
    device = device_for(spec)
    model_key = (spec.model, device.type)
    method = spec.method
    loops = 0 if isinstance(method, NoUnlearning) else spec.budget.unlearn_passes // method.passes_per_loop()
    training = loops * method.forget_batches_per_loop()
    retaining = loops * method.retain_batches_per_loop()
    attack = spec.attack.passes // spec.attack.passes_per_loop()
    key = (
        model_key,
        spec.forget,
        spec.retain,
        spec.batch,
        spec.seeds.data,
        training,
        retaining,
        attack,
        spec.attack.retain,
    )
    key += (spec.attack.texts,)
    if key in _benches:
        return _benches[key]
    if model_key not in _loaded:
        _loaded.clear()
        _benches.clear()
        _evaluated.clear()
        give_back_memory()
        _loaded[model_key] = load_model(spec.model, device)
    loaded = _loaded[model_key]
    model, tokenizer, seed = loaded.model, loaded.tokenizer, spec.seeds.data
    batch = spec.batch.model_copy(update={"length": min(spec.batch.length, longest_input(model))})
    retain_attack = attack if spec.attack.retain else 0
    texts, no_evaluation = spec.attack.texts, batch.model_copy(update={"evaluation": 0})
    forget_attack = 0 if texts else attack
    *_, forget, retain, own = checked(
        lambda: _check_length(spec, model),
        lambda: _check_modules(spec, model),
        lambda: token_batches(spec.forget, "forget", batch, seed, tokenizer, training, forget_attack),
        lambda: token_batches(spec.retain, "retain", batch, seed, tokenizer, retaining, retain_attack),
        lambda: texts and token_batches(texts, "attack.texts", no_evaluation, seed, tokenizer, attack, 0),
    )
    _check_vocabulary(model, (forget, retain, *filter(None, [own])))
    evaluation = Evaluation(list(forget.evaluation.to(device)), list(retain.evaluation.to(device)))
    if earlier := next(iter(_benches.values()), None):
        earlier.restore()
        snapshot, original = earlier.snapshot, earlier.original
        original.clear()  # its room is for the batches that trials see now
    else:
        snapshot, original = _snapshot(model), OriginalStates()
    with computing(spec.model, device):  # whoever asks first: the losses are kept for the trials
        untouched = evaluation.point(model, 0)
    _benches[key] = Bench(
        model, tokenizer, loaded.revision, loaded.folder, forget, retain, own, evaluation, snapshot, untouched, original
    )
    return _benches[key]


def _snapshot(model: PreTrainedModel) -> tuple[torch.Tensor, ...]:
    """Copies of all weights: beside them, and in the host's memory where they take much of a card's."""
    weights = [parameter.detach() for parameter in model.parameters()]
    if weights[0].is_cuda and is_large(sum(weight.nbytes for weight in weights)):
        return tuple(weight.cpu().pin_memory() for weight in weights)
    return tuple(weight.clone() for weight in weights)


def _check_length(spec: StudySpec, model: PreTrainedModel) -> None:
    if spec.batch.length > longest_input(model):
        raise SpecError.at(
            "batch.length",
            f"{spec.batch.length} tokens are more than the model takes",
            f"take at most {longest_input(model)}",
        )


def _check_modules(spec: StudySpec, model: PreTrainedModel) -> None:
    if not isinstance(spec.method, NoUnlearning):
        matching_weights(model, spec.method.target_modules)


def _check_vocabulary(model: PreTrainedModel, texts: tuple[TokenBatches, ...]) -> None:
    """A token beyond the embedding would end a trial on the CPU, and poison the whole process on a GPU."""
    known = model.get_input_embeddings().weight.shape[0]
    batches = [part for tokens in texts for part in (tokens.training, tokens.evaluation, tokens.attack)]
    highest = max(int(part.max()) for part in batches if part.numel())
    if highest >= known:
        raise SpecError.at(
            "model.id",
            f"its tokenizer gives token {highest}, and the model knows {known} tokens",
            "save the tokenizer that belongs to the model into its folder",
        )
