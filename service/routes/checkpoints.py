"""``/studies/{id}/checkpoints``: run the best once more to keep its weights, see which are kept, download them."""

import re
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from mudman.artifacts import Artifacts
from service import repeat_examples as examples
from service.bodies import Keeping, OptionalBody, parse_action
from service.checkpoint_views import CheckpointsView, CheckpointView, checkpoint_view, keeping_view
from service.declared_problems import problems
from service.refusals import NoCheckpoint, NoSuchRange
from service.routes import Configuration, Store
from service.routes.repeats import answered, created
from service.store import checkpoints, repeating, studies
from service.store.checkpoints import Kept
from service.views import StudyView

router = APIRouter(prefix="/studies/{study_id}/checkpoints", tags=["checkpoints"])
Ordinal = Annotated[int, Path(ge=0, lt=2**31)]
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")


@router.post("", summary="Keep the weights of the best", **created(examples.KEEPING, examples.KEEP))
def keep(study_id: str, body: OptionalBody, store: Store, settings: Configuration, response: Response) -> StudyView:
    """Creates a study that runs the chosen trials once more from their own seeds, holds their attack against what was
    recorded, and keeps the unlearned weights, as they were before the attack. Asking again for the same answers the
    study that is there. 409 where no trial is valid, or no place for artifacts is configured."""
    wanted = parse_action(body, Keeping)
    Artifacts(settings.artifacts)
    with store.begin() as session:
        made = repeating.keep(session, study_id, wanted.best or 1, wanted.trials or ())
        return answered(session, made, response)


@router.get(
    "",
    response_model=CheckpointsView,
    summary="List kept weights",
    responses={200: {"content": {"application/json": {"example": examples.CHECKPOINTS}}}, **problems(404, 422, 503)},
)
def list_checkpoints(study_id: str, store: Store):
    """Those that are there, and the studies that run trials again to keep them."""
    with store.begin() as session:
        study = studies.get(session, study_id)
        found = checkpoints.of(session, study)
        return CheckpointsView(
            study=study_id,
            items=[checkpoint_view(study_id, ordinal, kept) for ordinal, kept in found.items()],
            keeping=[keeping_view(one) for one in checkpoints.studies_of(session, study)],
        )


@router.get(
    "/{ordinal}",
    response_model=CheckpointView,
    summary="The kept weights of a trial",
    responses={200: {"content": {"application/json": {"example": examples.CHECKPOINT}}}, **problems(404, 422, 503)},
)
def show(study_id: str, ordinal: Ordinal, store: Store):
    """Its files with their hashes; `mudman pull` downloads and checks them."""
    with store.begin() as session:
        return checkpoint_view(study_id, ordinal, _kept(session, study_id, ordinal))


@router.get(
    "/{ordinal}/{file}",
    response_class=StreamingResponse,
    summary="Download a file of kept weights",
    responses={
        200: {"description": "The file", "content": {"application/octet-stream": examples.FILE}},
        206: {"description": "The part that `Range` asks for", "content": {"application/octet-stream": examples.FILE}},
        **problems(404, 409, 416, 422, 503),
    },
)
def download(
    study_id: str,
    ordinal: Ordinal,
    file: str,
    store: Store,
    settings: Configuration,
    range_: Annotated[
        str | None, Header(alias="Range", max_length=100, description="`bytes=FIRST-` or `bytes=FIRST-LAST`.")
    ] = None,
):
    """As the card and the configuration, so the weights. A `Range` of one part is honoured, so that a download can go
    on where it was cut off; the `ETag` is the file's SHA-256."""
    with store.begin() as session:
        kept = _kept(session, study_id, ordinal)
    known = next((one for one in kept.checkpoint.files if one.name == file), None)
    if known is None:
        names = ", ".join(one.name for one in kept.checkpoint.files)
        raise NoCheckpoint(f"The checkpoint has no file {file!r}. It has {names}.")
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{known.sha256}"'}
    start, end = 0, known.bytes
    asked = _RANGE.fullmatch(range_ or "")
    if asked and int(asked[2] or asked[1]) >= int(asked[1]):  # RFC 9110, 14.1.1: else it is none
        start, end = int(asked[1]), min(int(asked[2] or known.bytes - 1) + 1, known.bytes)
        if start >= end:
            raise NoSuchRange(file, known.bytes, start)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{known.bytes}"
    headers["Content-Length"] = str(end - start)
    parts = (
        _artifacts(settings.artifacts).read(f"{kept.checkpoint.key}/{file}", start, end) if end > start else iter(())
    )
    return StreamingResponse(parts, 206 if "Content-Range" in headers else 200, headers, "application/octet-stream")


def _kept(session: Session, study_id: str, ordinal: int) -> Kept:
    kept = checkpoints.of(session, studies.get(session, study_id)).get(ordinal)
    if kept is None:
        command = f"mudman pull {study_id} FOLDER --trial {ordinal}"
        raise NoCheckpoint(
            f"The weights of trial {ordinal} of study {study_id} are not kept. Keep them: POST "
            f'/studies/{study_id}/checkpoints {{"trials": [{ordinal}]}} (`{command}` does so).'
        )
    return kept


@cache
def _artifacts(place: str | None) -> Artifacts:
    return Artifacts(place)
