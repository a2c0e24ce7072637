"""Preparing studies: a short Ray task on a node with their resources. Says everything as data, like a trial.

The studies of a group are prepared in one process, one after the other: model and texts are read once, and so is the
attack on the untouched model, where they agree in it.
"""

import traceback
from collections.abc import Iterator
from typing import Any

from mudman.faults import SpecError
from mudman.preparation import prepare
from mudman.results import Fault, TrialResult
from mudman.specs import StudySpec
from workers.whereabouts import whereabouts


def prepare_studies(spec_jsons: list[str]) -> Iterator[dict[str, Any]]:
    """First ``{"place": …}``: there was one for it, and it has begun. Then for each study one of
    ``{"preparation": …}``, ``{"spec_error": …}`` and ``{"fault": …}``."""
    yield {"place": whereabouts()}
    baselines: dict[str, TrialResult] = {}
    for spec_json in spec_jsons:
        yield _prepare_one(spec_json, baselines)


def _prepare_one(spec_json: str, baselines: dict[str, TrialResult]) -> dict[str, Any]:
    try:
        spec = StudySpec.model_validate_json(spec_json)
        return {"preparation": prepare(spec, baselines).model_dump(mode="json")}
    except SpecError as error:
        return {"spec_error": error}
    except Exception as error:  # noqa: BLE001 - whatever breaks is told to the study's owner
        return {"fault": Fault(type=type(error).__name__, message=str(error), traceback=traceback.format_exc())}
