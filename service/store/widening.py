"""A study with wider ranges than another one, that begins with what is best in that."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from mudman.faults import SpecError, printable
from mudman.specs import Range, StudySpec, parse
from mudman.specs.comparison import PlacedFault
from service.statistics.means import TOP
from service.statistics.saturation import place
from service.store import events, idempotency, standing, studies
from service.store.idempotency import IdempotencyConflict
from service.store.refusals import NothingToWiden, WrongRequest
from service.store.studies import Creation
from service.store.tables import EnqueuedTrial, Study
from service.widening import PARENT, room, with_ranges


def widen(
    session: Session,
    study_id: str,
    *,
    name: str | None = None,
    trials: int | None = None,
    ranges: Mapping[str, Range] | None = None,
    warm_start: int = 10,
    idempotency_key: str | None = None,
) -> Creation:
    """Create the study and enqueue the best configurations of the other one; asked again, answer the one that is there.

    Raises ``UnknownStudy``, ``WrongRequest``, ``NothingToWiden``, ``NameTaken`` and ``IdempotencyConflict``.
    """
    study = studies.get(session, study_id)
    asked = {"name": name, "trials": trials, "ranges": ranges or {}, "warm_start": warm_start}
    request = hashlib.sha256(f"widen {study_id} {_canonical(asked)}".encode()).hexdigest()
    if idempotency_key and (earlier := idempotency.recall(session, study.owner, idempotency_key)):
        # Before anything is looked at: the ranges that are too narrow may be others by now, or none.
        if earlier.study_id is None or earlier.request_hash != request:
            raise IdempotencyConflict(idempotency_key)
        return Creation(studies.get(session, earlier.study_id), created=False)
    spec = StudySpec.model_validate(study.spec)
    wider = _checked(spec, ranges) if ranges else _saturated(session, study, spec)
    wanted = _parsed(study, wider, name, trials)
    creation = studies.create(session, wanted)
    if idempotency_key:
        idempotency.remember(session, study.owner, idempotency_key, request, study_id=creation.study.id)
    if creation.created:
        _warm_start(session, study, creation.study, wanted, warm_start)
    return creation


def _canonical(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, default=lambda searched: searched.model_dump(mode="json"), sort_keys=True)


def _saturated(session: Session, study: Study, spec: StudySpec) -> dict[str, Range]:
    top = [one.hyperparameters for one in standing.top(session, study, TOP)]
    wider, bounded = {}, []
    for name, searched in spec.search_space().items():
        if not top or any(name not in trial for trial in top):
            continue
        if side := place(name, searched, top).saturated:
            if found := room(spec, name, side):
                wider[name] = found
            else:
                bounded.append(name)
    if wider:
        return wider
    detail = f"No range of study {study.id} is known to be too narrow"
    if bounded:
        detail = f"The best trials of study {study.id} lie where {', '.join(bounded)} cannot go further"
    raise NothingToWiden(
        f"{detail}: /studies/{study.id}/statistics shows where they lie. "
        'To search others all the same, give them: {"ranges": {"unlearning_rate": {"low": …, "high": …, "log": true}}}.'
    )


def _checked(spec: StudySpec, ranges: Mapping[str, Range]) -> dict[str, Range]:
    searched, faults = spec.search_space(), []
    for name, given in ranges.items():
        where, old = ("ranges", name), searched.get(name)
        if old is None:
            message, remedy = "is no range that the study searches", f"one of {', '.join(searched) or 'none'}"
        elif given == old:
            message, remedy = "is the range as it was", "make it wider, or leave it out"
        elif given.low > old.low or given.high < old.high or (given.log, given.int) != (old.log, old.int):
            kind = ", log: true" * old.log + ", int: true" * old.int
            message = "does not contain the range as it was"
            remedy = f"take low: {old.low:g} or less and high: {old.high:g} or more{kind}"
        else:
            continue
        faults.append(PlacedFault(".".join(map(printable, where)), message, remedy, where))
    if faults:
        raise WrongRequest(faults)
    return dict(ranges)


def _parsed(study: Study, wider: Mapping[str, Range], name: str | None, trials: int | None) -> StudySpec:
    document: dict[str, Any] = with_ranges(study.spec, wider)
    document["name"] = name or f"{study.name[:192]}-widened"
    document["labels"] = {**document.get("labels", {}), PARENT: study.id}
    if trials is not None:
        document["budget"] = {**document["budget"], "trials": trials}
    try:
        return parse(document)
    except SpecError as error:
        raise WrongRequest([_in_request(fault) for fault in error.faults]) from None


def _in_request(fault: Any) -> PlacedFault:
    """What the spec finds wrong, at the field of the request that it comes from."""
    path = fault.path
    at: tuple[str, ...] = ()
    if path.startswith("method."):
        parts = path.removeprefix("method.").split(".")
        ends = [parts.pop()] if parts[-1] in ("low", "high") else []
        at = ("ranges", ".".join(parts), *ends)
    elif path == "budget.trials":
        at = ("trials",)
    elif path == "name":
        at = ("name",)
    return PlacedFault(".".join(at) or path, fault.message, fault.remedy, at)


def _warm_start(session: Session, parent: Study, child: Study, spec: StudySpec, many: int) -> None:
    """The ranges contain those of the parent: its configurations need no check."""
    searched = spec.search_space()
    best = standing.top(session, parent, min(many, spec.budget.trials))
    rows = [
        {"study_id": child.id, "sequence": number, "hyperparameters": chosen}
        for number, one in enumerate(best, 1)
        if (chosen := {name: value for name, value in one.hyperparameters.items() if name in searched})
    ]
    if rows:
        session.execute(insert(EnqueuedTrial), rows)
        data = {"sequences": [row["sequence"] for row in rows], "from": parent.id}
        events.append(session, child.id, "enqueued", data)
