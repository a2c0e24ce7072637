"""What a study works on: a model, texts, and how the texts become token batches."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mudman.specs.base import Model, Name


class ModelSpec(Model):
    """A causal language model."""

    id: Name
    """A packaged model (``tiny-llama``), a hub id (``org/name``), or a folder under the data root (``./my-model``)."""
    revision: Name = "main"
    """Branch, tag or commit on the hub; pinned to a commit when the study is prepared."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights, gradients and updates. In bfloat16 small updates vanish."""
    compute: Literal["bfloat16", "tf32"] | None = None
    """Type in which matrix products are computed, where it is not ``dtype``: weights, gradients and updates stay
    float32, so that no update vanishes. ``bfloat16``: GPUs and recent CPUs; ``tf32``: GPUs. Faster, less exact."""

    @model_validator(mode="after")
    def _compute_is_for_float32(self) -> Self:
        if self.compute is not None and self.dtype != "float32":
            raise ValueError("compute is for models in float32: leave it out, or take dtype: float32")
        return self

    @property
    def bytes_per_number(self) -> int:
        """Of weights, gradients and updates."""
        return {"float32": 4, "bfloat16": 2}[self.dtype]


class CorpusSpec(Model):
    """Text: one example per record, cut to ``batch.length`` tokens; shorter records are left out."""

    corpus: Name
    """A named corpus (``python-functions``), a hub id (``org/name``), or a folder under the data root (``./texts``).
    There a .txt file gives one record per paragraph: blank lines divide them."""
    form: Name | None = None
    """Read the folder or hub id as this named corpus would be read: its configuration, split, columns, filter and
    cleaning."""
    config: Name | None = None
    """Configuration of a hub data set, where it has several."""
    revision: Name | None = None
    """Branch, tag or commit on the hub."""
    split: Name | None = None
    """Split of the data set; default ``train``, or the one that a named corpus prescribes."""
    column: Name | None = None
    """Column that holds the text; default ``text``, or the one that a named corpus prescribes."""
    repeat: bool = False
    """Start over when the corpus is shorter than the budget needs, instead of refusing the study."""


class BatchSpec(Model):
    """Shape of every token batch."""

    size: int = Field(16, ge=1, le=4096)
    """Sequences per batch."""
    length: int = Field(100, ge=2, le=131072)
    """Tokens per sequence."""
    evaluation: int = Field(1, ge=1, le=10_000)
    """Batches of the validation split that are held out for the losses; the paper uses one."""
