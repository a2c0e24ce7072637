"""Studies that run the best of another one again: on fresh seeds (a confirmation), or from their own seeds to keep the
weights (checkpoints). They wait in the same queue and run under the same leases as any other."""

from collections.abc import Collection, Sequence
from itertools import count

from sqlalchemy import select
from sqlalchemy.orm import Session

from mudman.faults import SpecError
from mudman.specs import StudySpec, parse
from mudman.specs.repeats import Configuration, Recorded, RepeatsSpec, SeedsSpec, fresh_seeds
from service.statistics.compute import Attempt
from service.store import events, standing, studies
from service.store.pinning import pinned
from service.store.refusals import NothingToRepeat
from service.store.studies import Creation
from service.store.tables import Study, Trial

CONFIRMS, KEEPS = "confirms", "checkpoints_of"
"""Labels of the new studies with the id of the one whose trials they run."""


def confirm(session: Session, study_id: str, best: int, seeds: int) -> Creation:
    """The study that runs the best configurations on fresh seeds; the one that is there, where it is the same.

    Raises ``UnknownStudy`` and ``NothingToRepeat``.
    """
    study, spec = _repeatable(session, study_id)
    return _create(session, study, spec, best, fresh_seeds(spec.seeds, seeds), keep=False)


def keep(session: Session, study_id: str, best: int = 1, ordinals: Collection[int] = ()) -> Creation:
    """The study that runs the best configurations, or those of these trials, from their own seeds and keeps the
    weights; likewise."""
    study, spec = _repeatable(session, study_id)
    return _create(session, study, spec, best, (spec.seeds,), keep=True, ordinals=ordinals)


def as_asked(session: Session, study: Study) -> list[Study]:
    """What the spec of a study that has completed asks for. Where that cannot be, an event says why."""
    spec = StudySpec.model_validate(study.spec)
    made = []
    try:
        if spec.confirmation is not None:
            made.append(confirm(session, study.id, spec.confirmation.best, spec.confirmation.seeds).study)
        if spec.checkpoints is not None:
            made.append(keep(session, study.id, spec.checkpoints.best).study)
    except NothingToRepeat as refusal:
        events.append(session, study.id, "repeat_refused", {"reason": str(refusal)})
    return made


def newest(session: Session, study_id: str, *, keeping: bool) -> Study | None:
    """The latest confirmation of a study, or the latest study that keeps its checkpoints."""
    return next((one for one in children(session, study_id) if repeats_of(one).keep is keeping), None)


def confirming(session: Session, study_id: str) -> tuple[Study, list[Attempt]] | None:
    """The latest confirmation of a study, with its finished attempts."""
    child = newest(session, study_id, keeping=False)
    return child and (child, standing.finished(session, [child.id])[child.id])


def children(session: Session, study_id: str) -> Sequence[Study]:
    """Studies that run trials of this one again, the latest first."""
    order = (Study.created_at.desc(), Study.id)
    return session.scalars(select(Study).where(Study.repeats_id == study_id).order_by(*order)).all()


def repeats_of(study: Study) -> RepeatsSpec:
    """Of a study that runs trials of another one again."""
    return RepeatsSpec.model_validate(study.spec["repeats"])


def _repeatable(session: Session, study_id: str) -> tuple[Study, StudySpec]:
    """Locks the study's row: whoever asks at the same time finds what was made."""
    study = studies.locked(session, study_id, key_share=True)
    spec = StudySpec.model_validate(study.spec)
    if spec.repeats is not None:
        raise NothingToRepeat(
            f"Study {study_id} itself runs trials of study {spec.repeats.study} again. Ask for that one instead."
        )
    return study, pinned(spec, study.preparation)


def _create(
    session: Session,
    study: Study,
    spec: StudySpec,
    best: int,
    seeds: tuple[SeedsSpec, ...],
    *,
    keep: bool,
    ordinals: Collection[int] = (),
) -> Creation:
    chosen = (
        _valid(session, study, ordinals) if ordinals else [one.ordinal for one in standing.top(session, study, best)]
    )
    if not chosen:
        raise NothingToRepeat(
            f"No trial of study {study.id} is valid: there is no best one to run again. Try again when there is one."
        )
    baseline = (study.preparation or {}).get("baseline")
    repeats = RepeatsSpec(
        study=study.id,
        configurations=tuple(_configuration(session, study, ordinal, keep) for ordinal in chosen),
        seeds=seeds,
        keep=keep,
        baseline=_recorded(baseline) if keep and baseline else None,
    )
    for one in children(session, study.id):
        if repeats_of(one) == repeats and not (keep and _let_go(session, one)):
            return Creation(studies.run_again(session, one), created=False)
    ending = "kept" if keep else "confirmed"
    for number in count(1):
        name = f"{study.name[:185]}-{ending}" + (f"-{number}" if number > 1 else "")
        if made := _insert(session, study, _spec(study, spec, repeats, name)):
            events.append(session, study.id, "repeated", {"study": made.id, "name": name})
            return Creation(made, created=True)
    raise AssertionError("names do not end")


def _let_go(session: Session, study: Study) -> bool:
    """Whether weights that it kept are there no more."""
    kept = Trial.result["checkpoint"]
    gone = (Trial.study_id == study.id, kept["agreement"].astext.is_not(None), kept["key"].astext.is_(None))
    return session.scalar(select(Trial.ordinal).where(*gone).limit(1)) is not None


def _valid(session: Session, study: Study, ordinals: Collection[int]) -> list[int]:
    wanted = list(dict.fromkeys(ordinals))
    valid = (Trial.study_id == study.id, Trial.ordinal.in_(wanted), Trial.outcome == "valid")
    found = set(session.scalars(select(Trial.ordinal).where(*valid)))
    if others := [ordinal for ordinal in wanted if ordinal not in found]:
        raise NothingToRepeat(
            f"Of study {study.id}, these trials are not valid: {', '.join(map(str, others))}. Those that are: "
            f"/studies/{study.id}/trials?outcome=valid."
        )
    return wanted


def _configuration(session: Session, study: Study, ordinal: int, with_curve: bool) -> Configuration:
    valid = (Trial.study_id == study.id, Trial.ordinal == ordinal, Trial.outcome == "valid")
    trial = session.scalars(select(Trial).where(*valid)).one()
    recorded = _recorded(trial.result) if with_curve else Recorded()
    return Configuration(ordinal=ordinal, value=trial.value, hyperparameters=trial.hyperparameters, recorded=recorded)


def _recorded(result: dict) -> Recorded:
    """Of a stored ``mudman.results.TrialResult``."""
    curve = result.get("relearning") or {}
    losses = {name: tuple(curve.get(name, ())) for name in ("passes", "forget_loss", "retain_loss")}
    return Recorded(value=result.get("value"), **losses)


def _spec(study: Study, spec: StudySpec, repeats: RepeatsSpec, name: str) -> StudySpec:
    """As the study's, without what is for a search alone. Raises ``SpecError`` if the vocabulary has changed since."""
    document = spec.model_dump(mode="json", exclude_unset=True)
    for field in ("confirmation", "checkpoints", "pruner", "record"):
        document.pop(field, None)
    document |= {
        "name": name,
        "labels": {**document.get("labels", {}), KEEPS if repeats.keep else CONFIRMS: study.id},
        "budget": {**document["budget"], "trials": repeats.trials},
        "sampler": {"type": "random"},
        "seeds": repeats.seeds[0].model_dump(),
        "repeats": repeats.model_dump(mode="json", exclude_defaults=True),
    }
    try:
        return parse(document)
    except SpecError as error:
        raise NothingToRepeat(f"The trials of study {study.id} cannot be run again: {error}") from None


def _insert(session: Session, study: Study, spec: StudySpec) -> Study | None:
    """None where the name is taken; its group is undone with it."""
    with session.begin_nested() as savepoint:
        made = studies.add(session, spec, studies.add_group(session, spec.priority), repeats_id=study.id)
        if made is None:
            savepoint.rollback()
    return made
