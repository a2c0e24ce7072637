"""The published loop and attack as one would write them first: what ``trial.py`` measures against.

One retain step, one forget forward, two backwards over its graph (hybrid: 5 passes), tensor by tensor; the attack is
torch's own SGD. Logits are formed whole, as the models give them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1].float()
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


class Unlearning:
    """MUDMAN with a fork as its adversary, negative cross-entropy, sign mask, global norm before it."""

    def __init__(self, model: nn.Module, target: str, rates: dict[str, float]):
        self.model, self.rates = model, rates
        model.requires_grad_(False)
        named = model.named_parameters()
        self.weights = [weight.requires_grad_(True) for name, weight in named if name.endswith(f".{target}.weight")]
        self.base = [weight.detach().clone() for weight in self.weights]
        self.adversary = [weight.clone() for weight in self.base]
        self.average = [torch.zeros_like(weight) for weight in self.base]
        self.size = sum(weight.numel() for weight in self.base) ** 0.5
        self.loop = 0

    def step(self, forget: Tensor, retain: Tensor) -> None:
        if self.loop % int(self.rates["fork_every"]) == 0:
            for copy, weight in zip(self.adversary, self.base, strict=True):
                copy.copy_(weight)
        self.loop += 1
        self._compute_with(self.base)
        gradients = torch.autograd.grad(loss_of(self.model, retain), self.weights)
        momentum = self.rates["retain_momentum"]
        for average, gradient, weight in zip(self.average, gradients, self.base, strict=True):
            average.mul_(momentum).add_(gradient, alpha=1 - momentum)
            weight.sub_(average, alpha=self.rates["retaining_rate"])
        self._compute_with(self.adversary)
        loss = loss_of(self.model, forget)
        for copy, gradient in zip(
            self.adversary, torch.autograd.grad(loss, self.weights, retain_graph=True), strict=True
        ):
            copy.sub_(gradient, alpha=self.rates["adversary_rate"])
        gradients = torch.autograd.grad(-loss, self.weights)
        norm = sum(gradient.norm() ** 2 for gradient in gradients) ** 0.5
        for gradient, average, weight in zip(gradients, self.average, self.base, strict=True):
            update = gradient * (average.sign() == gradient.sign()) * (self.size / norm)
            weight.sub_(update, alpha=self.rates["unlearning_rate"])

    def _compute_with(self, tensors: list[Tensor]) -> None:
        for weight, tensor in zip(self.weights, tensors, strict=True):
            weight.data = tensor


def attack(model: nn.Module, forget: list[Tensor], rate: float) -> None:
    model.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for tokens in forget:
        optimizer.zero_grad()
        loss_of(model, tokens).backward()
        optimizer.step()


@torch.no_grad()
def check(model: nn.Module, batches: list[Tensor]) -> float:
    return torch.stack([loss_of(model, tokens) for tokens in batches]).mean().item()
