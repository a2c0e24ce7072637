"""A spec with the revisions that its study was prepared with, whatever the branches have moved to since."""

from typing import Any

from mudman.specs import StudySpec


def pinned(spec: StudySpec, preparation: dict[str, Any] | None) -> StudySpec:
    """``preparation``: a stored ``mudman.results.Preparation``; None leaves the spec as it is."""
    if preparation is None:
        return spec
    sections = {"model": spec.model.model_copy(update={"revision": preparation["model_revision"]})}
    for field, corpus in preparation["corpora"].items():
        found = {"revision": corpus["revision"]}
        if field == "attack":  # texts of its own
            sections[field] = spec.attack.model_copy(update={"texts": spec.attack.texts.model_copy(update=found)})
        else:
            sections[field] = getattr(spec, field).model_copy(update=found)
    return spec.model_copy(update=sections)
