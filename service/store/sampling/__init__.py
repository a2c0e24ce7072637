"""What a search tries next, in memory: one file per kind of sampler.

Each is a pure function of the spec and of what was asked and told, however often its process died in between: every
random number comes from the seed and the ordinal that is asked for.
"""

from mudman.specs import StudySpec
from service.store.sampling.base import Sampler
from service.store.sampling.cma import CmaEs
from service.store.sampling.gp import GaussianProcess
from service.store.sampling.grid import Grid
from service.store.sampling.trees import RandomSearch, TreeParzen

_SAMPLERS: dict[str, type[Sampler]] = {
    "tpe": TreeParzen,
    "random": RandomSearch,
    "grid": Grid,
    "cmaes": CmaEs,
    "gp": GaussianProcess,
}


def sampler_of(spec: StudySpec) -> Sampler:
    return _SAMPLERS[spec.sampler.type](spec)
