"""Unlearning methods: one file each, the algorithm visible on a page (what they share: ``base``)."""

from mudman.methods.circuit_breakers import CircuitBreakers
from mudman.methods.gradient_ascent import GradientAscent
from mudman.methods.gradient_difference import GradientDifference
from mudman.methods.mudman import Mudman
from mudman.methods.nested import Nested
from mudman.methods.neuron_ablation import NeuronAblation
from mudman.methods.random_mapping import RandomMapping
from mudman.methods.static_circuit import StaticCircuit
from mudman.methods.tar import Tar
from mudman.methods.weight_ablation import WeightAblation

METHODS = {
    "mudman": Mudman,
    "gradient_ascent": GradientAscent,
    "gradient_difference": GradientDifference,
    "neuron_ablation": NeuronAblation,
    "static_circuit": StaticCircuit,
    "weight_ablation": WeightAblation,
    "circuit_breakers": CircuitBreakers,
    "nested": Nested,
    "tar": Tar,
    "random_mapping": RandomMapping,
}
