from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from mudman.faults import FieldFault, SpecError, field_faults
from mudman.specs.attack import AttackSpec, BudgetSpec
from mudman.specs.base import Range
from mudman.specs.methods import MethodSpec
from mudman.specs.study import StudySpec, divisibility_faults, numbers_of

_METHODS = {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(MethodSpec)[0])}
_COUNTED = ("type", "adversary", "representation_loss", "adversaries", "inner_steps", "order", "every", "importance")
_FILLED = {"target_modules": ["any"], "unlearning_rate": 1.0}

# ------------------------------------------------------------------------------------- from ranges to one trial


def resolve(method: MethodSpec, hyperparameters: dict[str, float]) -> MethodSpec:
    """The method with every range replaced by its value from ``hyperparameters`` (dotted path below ``method``).

    Raises ``SpecError`` for a searched range without a value, an unknown name, or a value outside the field's bounds.
    Chosen values may lie outside the searched range: users enqueue such points on purpose. A range that the variant
    does not use takes its lower end: it has no effect.
    """
    numbers, idle, faults = dict(numbers_of(method)), method.idle_fields(), []
    data = method.model_dump(mode="json")
    for path in hyperparameters:
        if path not in numbers:
            known = ", ".join(numbers) or "none: this method has no numbers"
            faults.append(FieldFault(f"method.{path}", "is no number of this method", f"one of {known}"))
    for path, number in numbers.items():
        if path in hyperparameters:
            _set(data, path, hyperparameters[path])
        elif isinstance(number, Range) and path in idle:
            _set(data, path, number.low)
        elif isinstance(number, Range):
            faults.append(FieldFault(f"method.{path}", "is a range and has no value", "give a hyper-parameter for it"))
    if faults:
        raise SpecError(faults)
    return parse_as(MethodSpec, data, prefix="method")


def _set(data: Any, path: str, value: float) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for parent in parents:
        data = data[parent]
    data[last] = value


# ----------------------------------------------------------------------------------------- from outside to a spec


def parse(data: Any) -> StudySpec:
    """Validate untrusted data. Raises ``SpecError`` with every fault: of single fields and between fields."""
    try:
        return parse_as(StudySpec, data)
    except SpecError as error:
        # Rules between fields are not reached by pydantic once a field is wrong: check what can be read on its own.
        between = divisibility_faults(
            _readable(data, "method", MethodSpec),
            _readable(data, "attack", AttackSpec),
            _readable(data, "budget", BudgetSpec),
        )
        wrong = {fault.path for fault in error.faults}
        raise SpecError(error.faults + [fault for fault in between if fault.path not in wrong]) from None


@cache
def _adapter(kind: Any) -> TypeAdapter:
    """Built once: that takes longer than to read a whole spec."""
    return TypeAdapter(kind)


def parse_as(kind: Any, data: Any, prefix: str = "") -> Any:
    """Validate ``data`` as the spec model ``kind``. Raises ``SpecError``; ``prefix`` leads every reported path."""
    try:
        return _adapter(kind).validate_python(data)
    except ValidationError as error:
        raise SpecError(field_faults(error, data, kind, prefix)) from None


def _readable(data: Any, key: str, kind: Any) -> Any:
    """The section ``key`` with its wrong fields left out, or None where too little of it can be read."""
    section = data.get(key) if isinstance(data, dict) else None
    if key == "method" and isinstance(section, dict):
        # Passes per loop rest on these alone; whatever else is wrong there has been reported.
        section = {name: value for name, value in section.items() if name in _COUNTED}
        fields = next((kind.model_fields for name, kind in _METHODS.items() if name == section.get("type")), {})
        section |= {name: value for name, value in _FILLED.items() if name in fields}
    elif key == "budget" and isinstance(section, dict):
        section = section | {"trials": 1}
    try:
        return parse_as(kind, section)
    except SpecError:
        return None
