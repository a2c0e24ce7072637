"""Which weights a method may change."""

from torch import nn

from mudman.faults import FieldFault, SpecError


def matching_weights(model: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Weights of the modules named by ``targets``, by full parameter name, in the model's order.

    A target matches whole trailing parts of a module's dotted name: ``dense`` matches ``attention.dense`` and not
    ``mlp.dense_h_to_4h``. Biases are never included. Raises ``SpecError`` naming every target without a match.
    """
    found: dict[str, nn.Parameter] = {}
    missing = set(targets)
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
    }
    for name, module in modules.items():
        for target in targets:
            if f".{name}".endswith(f".{target}"):
                missing.discard(target)
                if not any(module.weight is weight for weight in found.values()):
                    found[f"{name}.weight"] = module.weight
    if missing:
        present = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if module.weight.ndim == 2})
        raise SpecError(
            [
                FieldFault(
                    "method.target_modules",
                    f"no module of this model is named {target!r}",
                    f"take from its modules with a weight matrix: {', '.join(present)}",
                )
                for target in sorted(missing)
            ]
        )
    return found
