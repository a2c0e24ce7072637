"""``/studies/{id}/confirm``: the best of a study, run again on fresh seeds."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from mudman.specs.repeats import ConfirmationSpec
from service import repeat_examples as examples
from service.bodies import OptionalBody, parse_action
from service.declared_problems import problems
from service.routes import Store
from service.routes.studies import view_of
from service.store import repeating
from service.views import StudyView

router = APIRouter(prefix="/studies/{study_id}", tags=["studies"])


def created(example: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """A new study, or the one that was there."""
    there = {"schema": {"$ref": "#/components/schemas/StudyView"}, "example": example}
    return {
        "status_code": 201,
        "response_model": StudyView,
        "responses": {
            200: {
                "description": "The same study was there already, and is queued again if it had failed or was "
                "cancelled",
                "content": {"application/json": there},
            },
            201: {
                "description": "Created",
                "headers": {"Location": {"description": "Address of the study", "schema": {"type": "string"}}},
                "content": {"application/json": {"example": example}},
            },
            **problems(404, 409, 413, 415, 422, 503),
        },
        "openapi_extra": {"requestBody": body},
    }


@router.post("/confirm", summary="Run the best again on fresh seeds", **created(examples.CONFIRMING, examples.CONFIRM))
def confirm(study_id: str, body: OptionalBody, store: Store, response: Response):
    """Creates a study that runs the best configurations of this one again, each under several fresh seeds: other
    training and held-out batches, other draws. What is left of the best then stands in `…/best` and `…/statistics`.
    Asking again for the same answers the study that is there. 409 where no trial is valid, or the study itself repeats
    another one."""
    wanted = parse_action(body, ConfirmationSpec)
    with store.begin() as session:
        return answered(session, repeating.confirm(session, study_id, wanted.best, wanted.seeds), response)


def answered(session: Session, creation: Any, response: Response) -> StudyView:
    view = view_of(session, creation.study)
    response.status_code = 201 if creation.created else 200
    response.headers["Location"] = view.links.self
    return view
