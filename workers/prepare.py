"""Preparing a study: a short Ray task on a node with the study's resources. Says everything as data, like a trial."""

import traceback
from typing import Any

from mudman.faults import SpecError
from mudman.preparation import prepare
from mudman.results import Fault
from mudman.specs import StudySpec


def prepare_study(spec_json: str) -> dict[str, Any]:
    """One of ``{"preparation": …}``, ``{"spec_error": …}`` and ``{"fault": …}``."""
    try:
        spec = StudySpec.model_validate_json(spec_json)
        return {"preparation": prepare(spec).model_dump(mode="json")}
    except SpecError as error:
        return {"spec_error": error}
    except Exception as error:  # noqa: BLE001 - whatever breaks is told to the study's owner
        return {"fault": Fault(type=type(error).__name__, message=str(error), traceback=traceback.format_exc())}
