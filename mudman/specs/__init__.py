"""The vocabulary of the whole system: what a study is, in frozen pydantic models.

The same model is the request body of ``POST /studies``, the JSON that Postgres stores, the plan of the dispatcher and
the argument of a trial. It knows neither torch nor any database. ``parse`` turns untrusted data into a ``StudySpec``
or raises one ``SpecError`` that names every wrong field at once.
"""

from mudman.specs.attack import AttackSpec, BudgetSpec, ConstraintSpec, ObjectiveSpec, minimised
from mudman.specs.base import Model, Name, Range
from mudman.specs.methods import MethodSpec, MudmanSpec, NoUnlearning
from mudman.specs.reading import parse, parse_as, resolve
from mudman.specs.sources import BatchSpec, CorpusSpec, ModelSpec
from mudman.specs.study import SPEC_VERSION, ResourcesSpec, StudySpec, whole_loops

__all__ = [
    "SPEC_VERSION",
    "AttackSpec",
    "BatchSpec",
    "BudgetSpec",
    "ConstraintSpec",
    "CorpusSpec",
    "MethodSpec",
    "Model",
    "ModelSpec",
    "MudmanSpec",
    "Name",
    "NoUnlearning",
    "ObjectiveSpec",
    "Range",
    "ResourcesSpec",
    "StudySpec",
    "minimised",
    "parse",
    "parse_as",
    "resolve",
    "whole_loops",
]
