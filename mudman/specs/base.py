"""What every part of the vocabulary is made of: frozen models, names, seeds, and numbers that may be ranges."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

MOST_PASSES = 10**9
CHECK_EVERY = 30
"""Passes between two checks, as published."""


class Model(BaseModel):
    """Frozen, closed to unknown fields, NaN and infinity; strict, so that ``true`` and ``"3"`` are no numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Range(Model):
    """An interval that the sampler searches: ``{low: 1e-7, high: 0.3, log: true}``."""

    low: float
    """Smallest value that is tried."""
    high: float
    """Largest value that is tried, itself included."""
    log: bool = False
    """Sample the logarithm uniformly; needs low > 0."""
    int: bool = False
    """Sample whole numbers only."""

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(
                f"low ({self.low:g}) must be below high ({self.high:g}); for one fixed value give the number"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"a log range cannot reach low = {self.low:g}; take low > 0, or log: false")
        if self.int and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("an int range needs whole numbers for low and high")
        return self

    def middle(self) -> float:
        """The value halfway: the geometric mean of a log range, a whole number of an int range."""
        value = math.sqrt(self.low) * math.sqrt(self.high) if self.log else self.low / 2 + self.high / 2
        return round(value) if self.int else value

    def nearest(self, value: float) -> float:
        """The value of the range that is nearest to this one."""
        value = min(max(value, self.low), self.high)
        return round(value) if self.int else value

    def levels(self, points: int) -> tuple[float, ...]:
        """``points`` values from end to end at even distances, by their logarithm in a log range; one is the middle.
        Of an int range each whole number at most once."""
        if points == 1:
            return (self.middle(),)
        shares = [step / (points - 1) for step in range(points)]
        if self.log:
            inner = [self.low ** (1 - share) * self.high**share for share in shares[1:-1]]
        else:
            inner = [self.low * (1 - share) + self.high * share for share in shares[1:-1]]
        return tuple(dict.fromkeys(self.nearest(value) for value in (self.low, *inner, self.high)))


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "value"


def within(low: float, high: float) -> AfterValidator:
    """Bounds for a value, or for both ends of a range."""

    def check(value: float | Range) -> float | Range:
        ends = {("low",): value.low, ("high",): value.high} if isinstance(value, Range) else {(): value}
        for below, end in ends.items():
            if not low <= end <= high:
                bound = f"of at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
                context = {"bound": bound, "end": end, "below": below}
                raise PydanticCustomError("out_of_bounds", "must be " + bound.removeprefix("of "), context)
        return value

    return AfterValidator(check)


Number = Annotated[
    Annotated[float, Tag("value")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]
Rate = Annotated[Number, within(0, math.inf)]
Share = Annotated[Number, within(0, 1)]
Interval = Annotated[Number, within(1, math.inf)]
Count = Annotated[int, Field(ge=1, le=100_000)]


class _Shorthand(BeforeValidator):
    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        name = {"type": "string", "description": "`type` alone, all other settings at their defaults"}
        return {"anyOf": [handler(schema), name]} if handler.mode == "validation" else handler(schema)


# A component without settings may be written by its name alone: ``mask: sign`` means ``mask: {type: sign}``.
SHORTHAND = _Shorthand(lambda value: {"type": value} if isinstance(value, str) else value)


class Method(Model, ABC):
    """What every method's spec tells the engine, the data and the search."""

    retains: ClassVar[bool] = True
    """Whether every loop has a step on a retain batch: only then can unlearning pause while retaining goes on."""

    @abstractmethod
    def passes_per_loop(self) -> int:
        """Passes one loop books."""

    def forget_batches_per_loop(self) -> int:
        return 1

    def retain_batches_per_loop(self) -> int:
        return 1

    def original_batches_per_loop(self) -> int:
        """Batches of which it is asked what the original model makes of them."""
        return 0

    def start_up_loops(self) -> int:
        """Loops at the start in which nothing is unlearned yet."""
        return 0

    def idle_fields(self) -> set[str]:
        """Dotted paths of settings that the chosen variant does not use."""
        return set()
