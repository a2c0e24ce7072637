"""``/studies/{id}/…``: what is done to a study that is there. Each answers it, or says why it cannot be (409)."""

import hashlib
from typing import Any

from fastapi import APIRouter, Response

from service import action_examples as examples
from service.action_views import EnqueuedView, enqueued_view
from service.bodies import Enqueue, Extension, OptionalBody, RequestBody, Retry, Widening, canonical, parse_action
from service.declared_problems import problems
from service.routes import Key, Store
from service.routes.repeats import answered, created
from service.routes.studies import view_of
from service.store import actions, enqueued, studies, widening
from service.store.states import Action
from service.views import StudyView

router = APIRouter(prefix="/studies/{study_id}", tags=["studies"])


def _answers(state: str, *statuses: int, **more: Any) -> dict[str, Any]:
    """The study in its new state, or one of these problems."""
    example = {200: {"content": {"application/json": {"example": examples.study(state)}}}}
    return {"response_model": StudyView, "responses": example | problems(404, 409, *statuses, 422, 503), **more}


@router.post("/pause", summary="Pause a study", **_answers("paused"))
def pause(study_id: str, store: Store):
    """Its running trials end within seconds, and run again with the same hyper-parameters once it is resumed; what is
    finished stays. Only a running study can be paused (409)."""
    with store.begin() as session:
        return view_of(session, studies.change_state(session, studies.get(session, study_id).id, Action.PAUSE))


@router.post("/resume", summary="Resume a study", **_answers("running"))
def resume(study_id: str, store: Store):
    """It goes on where it was paused: the trials that were cut off first. Only a paused study can be resumed (409)."""
    with store.begin() as session:
        return view_of(session, actions.resume(session, study_id))


@router.post("/cancel", summary="Cancel a study", **_answers("cancelled"))
def cancel(study_id: str, store: Store):
    """Its running trials end within seconds; what is finished stays. A finished study cannot be cancelled (409)."""
    with store.begin() as session:
        return view_of(session, studies.change_state(session, studies.get(session, study_id).id, Action.CANCEL))


@router.post(
    "/extend",
    summary="Give a study more trials",
    **_answers("queued", 413, 415, openapi_extra={"requestBody": examples.EXTENSION}),
)
def extend(study_id: str, body: RequestBody, store: Store):
    """A finished study gets a larger budget and is queued again. Its search goes on with every result so far; nothing
    is prepared or measured anew. The stored spec has the new total from then on. A study that has not finished cannot
    be extended (409).

    `trials` is the new total, so that this may be repeated: a study that has this budget already is answered as it is,
    whatever its state."""
    wanted = parse_action(body, Extension)
    with store.begin() as session:
        return view_of(session, actions.extend(session, study_id, wanted.trials))


@router.post(
    "/retry",
    summary="Run failed trials again",
    **_answers("queued", 413, 415, openapi_extra={"requestBody": examples.RETRY}),
)
def retry(study_id: str, body: OptionalBody, store: Store):
    """Trials of a finished study that ended in an error, out of memory or lost for good get another attempt with the
    same hyper-parameters, and the study is queued again; without a body all of them. 409 where there is none, or one
    that was named is none.

    Those that count this time may be more than the budget asked for: a completed study can be retried too.
    """
    wanted = parse_action(body, Retry)
    with store.begin() as session:
        return view_of(session, actions.retry(session, study_id, wanted.outcomes, wanted.ordinals))


@router.post(
    "/trials",
    status_code=201,
    response_model=EnqueuedView,
    summary="Enqueue chosen hyper-parameters",
    responses={
        200: {
            "description": "Enqueued before, under the same key",
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/EnqueuedView"},
                    "example": examples.ENQUEUED,
                }
            },
        },
        201: {"description": "Enqueued", "content": {"application/json": {"example": examples.ENQUEUED}}},
        **problems(404, 409, 413, 415, 422, 503),
    },
    openapi_extra={"requestBody": examples.ENQUEUE},
)
def enqueue(
    study_id: str,
    body: RequestBody,
    store: Store,
    response: Response,
    idempotency_key: Key = None,
):
    """The study's next new trials take these values, in order; what is left out the sampler chooses. Each counts toward
    the budget; 409 where it has no room for them, or the study has ended. Answers all that wait in line."""
    wanted = parse_action(body, Enqueue)
    request_hash = hashlib.sha256(f"enqueue {study_id} {canonical(wanted)}".encode()).hexdigest()
    key = {"idempotency_key": idempotency_key, "request_hash": request_hash}
    with store.begin() as session:
        added = enqueued.add(session, study_id, wanted.places(), **key)
        view = enqueued_view(study_id, enqueued.waiting(session, study_id))
    response.status_code = 201 if added else 200
    return view


@router.post("/widen", summary="Search wider ranges in a new study", **created(examples.WIDENED, examples.WIDEN))
def widen(study_id: str, body: OptionalBody, store: Store, response: Response, idempotency_key: Key = None):
    """Creates a study like this one whose saturated ranges reach half their width further (without a body), or with the
    ranges that are given, and enqueues the best configurations of this one there. Its label `widened_from` is this
    study's id. 409 where no range is saturated and none is given."""
    wanted = parse_action(body, Widening)
    with store.begin() as session:
        creation = widening.widen(
            session,
            study_id,
            name=wanted.name,
            trials=wanted.trials,
            ranges=wanted.ranges,
            warm_start=wanted.warm_start,
            idempotency_key=idempotency_key,
        )
        return answered(session, creation, response)


@router.delete("", status_code=204, summary="Delete a study", responses=problems(404, 409, 422, 503))
def delete(study_id: str, store: Store) -> None:
    """With its trials, events and everything else of it, for good. One that has not finished is cancelled first, and
    one of a comparison is deleted with that (409)."""
    with store.begin() as session:
        actions.delete(session, study_id)
