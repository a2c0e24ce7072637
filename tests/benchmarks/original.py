"""What is won by keeping the original model's hidden states: ``python tests/benchmarks/original.py``.

One loop of each method that looks at the original model, with its states formed anew and with them known from an
earlier trial, by turns; batches of 16 x 100 tokens, one thread, medians of nine.
"""

import torch
from trial import DEVICE, SHAPES, by_turns, prepared_model

import mudman
from mudman.original import OriginalStates
from mudman.precision import computing
from mudman.specs import MethodSpec, ModelSpec, parse_as

BATCHES = 4
FORK = {"retain_momentum": 0.9, "adversary_rate": 1e-3, "fork_every": 20, "adversary": {"type": "fork"}}
METHODS = {
    "circuit_breakers": {"unlearning_rate": 1e-4, "retaining_rate": 1e-3},
    "mudman": {"unlearning_rate": 1e-4, "retaining_rate": 1e-3, "representation_loss": {"coefficient": 1.0}, **FORK},
    "tar": {"unlearning_rate": 1e-5, "inner_steps": 4, "every": 4, "adversary_rates": [1e-3]},
}


def measure(shape: str, name: str) -> str:
    model, restore = prepared_model(shape)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    forget, retain = ([torch.randint(2, vocabulary, (16, 100)) for _ in range(BATCHES)] for _ in range(2))
    method = {"type": name, "target_modules": [SHAPES[shape][0]], **METHODS[name]}
    passes = BATCHES * parse_as(MethodSpec, method).passes_per_loop()
    known = OriginalStates()

    def unlearn(original: OriginalStates) -> None:
        restore()
        mudman.unlearn(model, forget, retain, method, passes, original=original)

    with computing(ModelSpec(id=shape), DEVICE):
        took = by_turns({"anew": lambda: unlearn(OriginalStates(0)), "known": lambda: unlearn(known)}, 9)
    anew, again = (1000 * took[each] / BATCHES for each in ("anew", "known"))
    return f"| {name} | {shape} | {anew:.0f} | {again:.0f} | {anew / again:.2f} |"


def main() -> None:
    torch.set_num_threads(1)
    print("| method | shape | ms a loop | states known | x |\n|---|---|---|---|---|")
    for shape in ("tiny-llama", "pythia-14m"):
        for name in METHODS:
            print(measure(shape, name), flush=True)


if __name__ == "__main__":
    main()
