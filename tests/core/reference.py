"""The published procedure, written a second time from its description: slow, explicit, wasteful of memory.

It shares no code with ``mudman.engine``; only the vocabulary (``mudman.specs``) is common. Every weight, gradient and
accumulator is a fresh tensor in a dict by parameter name, the model is called as a pure function of such a dict, and
nothing is ever changed in place. The numbered comments are the steps of one loop in their published order.
"""

import copy
import math

import torch
from torch.nn import functional

from mudman.specs import MudmanSpec

Tensors = dict[str, torch.Tensor]


def matched(model: torch.nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Names of the weights of all modules whose dotted name ends in one of ``targets``, whole parts only."""
    modules = [name for name, _ in model.named_modules()]
    return [f"{name}.weight" for name in modules if any(f".{name}".endswith(f".{target}") for target in targets)]


# --------------------------------------------------------------------------------------------------------- losses


def cross_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean of −log p(next token), in fp32, over all positions but the last."""
    log_p = logits[:, :-1].float().log_softmax(-1)
    return -log_p.gather(-1, tokens[:, 1:, None]).mean()


def neg_cross_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return -cross_entropy(logits, tokens)


def neg_entropy(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean of Σ p log p over all positions, the last included."""
    log_p = logits.log_softmax(-1)
    return (log_p.exp() * log_p).sum(-1).mean()


LOSSES = {"neg_cross_entropy": neg_cross_entropy, "neg_entropy": neg_entropy}


def representation_distance(states: tuple, original: tuple, squared: bool) -> torch.Tensor:
    """Mean over tokens and over all hidden states but the last of the (squared) L2 norm of the difference."""
    means = []
    for now, then in zip(states[:-1], original[:-1], strict=True):
        norms = torch.norm(now - then, dim=-1)
        means.append((norms**2 if squared else norms).mean())
    return torch.stack(means).mean()


# ------------------------------------------------------------------------------------------------------ gradients


def forward(model: torch.nn.Module, tokens: torch.Tensor, weights: Tensors, hidden_states: bool = False):
    """The model's output as a pure function of ``weights``; the model's own are neither used nor touched."""
    inputs = {"input_ids": tokens, "use_cache": False, "output_hidden_states": hidden_states}
    return torch.func.functional_call(model, weights, (), inputs)


def leaves(weights: Tensors) -> Tensors:
    return {name: w.clone().requires_grad_(True) for name, w in weights.items()}


def gradients_of(loss: torch.Tensor, weights: Tensors) -> Tensors:
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def gradient(model: torch.nn.Module, weights: Tensors, tokens: torch.Tensor, loss) -> Tensors:
    weights = leaves(weights)
    return gradients_of(loss(forward(model, tokens, weights).logits, tokens), weights)


class OldForwardNewBackward(torch.autograd.Function):
    """A linear layer whose output comes from the old weight and whose input gradient comes from the new one."""

    @staticmethod
    def forward(ctx, x, old, new, bias):
        ctx.save_for_backward(x, new)
        return functional.linear(x, old, bias)

    @staticmethod
    def backward(ctx, grad):
        x, new = ctx.saved_tensors
        return grad @ new, grad.flatten(0, -2).T @ x.flatten(0, -2), None, None


def hybrid_gradient(model: torch.nn.Module, old: Tensors, new: Tensors, tokens: torch.Tensor, loss) -> Tensors:
    """Activations of the old weights, carried back through the new ones: the published one-graph gradient.

    The published code changes the weights in place between two backwards over one graph. What that computes is said
    here outright, layer by layer, without relying on it.
    """
    weights = leaves(old)
    layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in old}
    for name, layer in layers.items():
        layer.forward = lambda x, name=name, layer=layer: OldForwardNewBackward.apply(
            x, weights[name], new[name].clone(), layer.bias
        )
    try:
        logits = model(input_ids=tokens, use_cache=False).logits
    finally:
        for layer in layers.values():
            del layer.forward  # the class's own again
    return gradients_of(loss(logits, tokens), weights)


def retain_gradient(model, weights: Tensors, tokens: torch.Tensor, spec: MudmanSpec) -> Tensors:
    """``model`` is never changed, so that its own weights are those of the original."""
    weights = leaves(weights)
    output = forward(model, tokens, weights, hidden_states=spec.representation_loss is not None)
    loss = cross_entropy(output.logits, tokens)
    if spec.representation_loss:
        with torch.no_grad():
            original = forward(model, tokens, {}, hidden_states=True)
        distance = representation_distance(
            output.hidden_states, original.hidden_states, spec.representation_loss.squared
        )
        loss = loss + spec.representation_loss.coefficient * distance
    return gradients_of(loss, weights)


# -------------------------------------------------------------------------------------------------- normalisation


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors.values()))


def share(numerator: float, denominator: float) -> float:
    """Zero gradients make a zero update, not 0/0."""
    return numerator / denominator if denominator else 0.0


def normalised(update: Tensors, raw_norm: float, spec: MudmanSpec) -> Tensors:
    rms = spec.rate_unit == "rms"
    if spec.normalization == "none":
        return {name: u.clone() for name, u in update.items()}
    if spec.normalization == "per_parameter":
        return {name: u * share(math.sqrt(u.numel()) if rms else 1.0, norm({name: u})) for name, u in update.items()}
    count = sum(u.numel() for u in update.values())
    divisor = {"global_pre_mask": raw_norm, "global_post_mask": norm(update)}[spec.normalization]
    return {name: u * share(math.sqrt(count) if rms else 1.0, divisor) for name, u in update.items()}


# ------------------------------------------------------------------------------------------------------- the loop


def unlearn(model: torch.nn.Module, forget: list, retain: list, method: dict, loops: int) -> Tensors:
    """The intervened weights after ``loops`` loops. The model itself is left as it is."""
    spec = MudmanSpec(**method)
    names = matched(model, spec.target_modules)
    base = {name: model.get_parameter(name).detach().clone() for name in names}
    adversary = {name: w.clone() for name, w in base.items()}
    retain_accumulator = {name: torch.zeros_like(w) for name, w in base.items()}
    forget_accumulator = {name: torch.zeros_like(w) for name, w in base.items()}
    unlearning_loss = LOSSES[spec.loss.type]
    has_adversary = spec.adversary.type == "fork"

    for loop in range(loops):
        # 1 batches
        forget_batch, retain_batch = forget[loop % len(forget)], retain[loop % len(retain)]

        # 2 fork, before the retain step
        if has_adversary and loop % int(spec.fork_every) == 0:
            adversary = {name: w.clone() for name, w in base.items()}

        # 3-5 retain gradient, accumulator, retain update
        g_r = retain_gradient(model, base, retain_batch, spec)
        m = spec.retain_momentum
        retain_accumulator = {name: m * retain_accumulator[name] + (1 - m) * g_r[name] for name in names}
        base = {name: base[name] - spec.retaining_rate * retain_accumulator[name] for name in names}

        # 6-8 the adversary and the unlearning gradient
        if has_adversary:
            g_a = gradient(model, adversary, forget_batch, cross_entropy)
            stepped = {name: adversary[name] - spec.adversary_rate * g_a[name] for name in names}
            d = spec.adversary.decay
            stepped = {name: d * stepped[name] + (1 - d) * base[name] for name in names}
            if spec.adversary.gradient == "hybrid":
                g_u = hybrid_gradient(model, adversary, stepped, forget_batch, unlearning_loss)
            elif spec.adversary.gradient == "reuse":
                g_u = gradient(model, adversary, forget_batch, unlearning_loss)
            else:
                g_u = gradient(model, stepped, forget_batch, unlearning_loss)
            adversary = stepped
        else:
            g_u = gradient(model, base, forget_batch, unlearning_loss)

        # 9 norm of the raw gradient
        raw_norm = norm(g_u)

        # 10 forget momentum
        if spec.forget_momentum > 0:
            beta = spec.forget_momentum
            forget_accumulator = {name: beta * forget_accumulator[name] + (1 - beta) * g_u[name] for name in names}
            g_u = {name: forget_accumulator[name].clone() for name in names}

        # 11 Disruption Masking
        if spec.mask.type == "sign":
            g_u = {name: g_u[name] * (retain_accumulator[name].sign() == g_u[name].sign()) for name in names}

        # 12 factor on what grows the absolute weight
        grows = {name: base[name].sign() != g_u[name].sign() for name in names}
        g_u = {name: torch.where(grows[name], spec.growing_weights * g_u[name], g_u[name]) for name in names}

        # 13-15 normalise, update the model, let the adversary have its share
        g_u = normalised(g_u, raw_norm, spec)
        base = {name: base[name] - spec.unlearning_rate * g_u[name] for name in names}
        if has_adversary:
            part = spec.adversary.update * spec.unlearning_rate
            adversary = {name: adversary[name] - part * g_u[name] for name in names}

    return base


def relearn(model: torch.nn.Module, forget: list, rate: float, loops: int, retain: list | None = None) -> Tensors:
    """All weights after plain SGD on the forget batches, a retain step after each if ``retain`` is given."""
    twin = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.SGD(twin.parameters(), lr=rate)
    for loop in range(loops):
        for stream in (forget, retain) if retain else (forget,):
            tokens = stream[loop % len(stream)]
            optimizer.zero_grad()
            cross_entropy(twin(input_ids=tokens).logits, tokens).backward()
            optimizer.step()
    return {name: p.detach().clone() for name, p in twin.named_parameters()}
