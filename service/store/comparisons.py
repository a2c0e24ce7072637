"""Comparisons: creating one with all its studies, adding to them, what state it is in, deleting it.

What is done to all its studies at once is in ``together``.
"""

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from mudman.faults import MudmanError
from mudman.specs import StudySpec
from mudman.specs.comparison import ComparisonSpec, parse_comparison
from service.store import actions, idempotency, studies
from service.store.idempotency import IdempotencyConflict
from service.store.states import State
from service.store.tables import Comparison, Study


class UnknownComparison(MudmanError):
    """No comparison has this id."""

    def __init__(self, comparison_id: str):
        super().__init__(f"There is no comparison {comparison_id!r}. List the comparisons with GET /comparisons.")
        self.comparison_id = comparison_id

    def __reduce__(self):
        return UnknownComparison, (self.comparison_id,)


class UnknownVariant(MudmanError):
    """The comparison has no variant of this name."""

    def __init__(self, comparison_id: str, variant: str, known: list[str]):
        super().__init__(f"Comparison {comparison_id} has no variant {variant!r}. There are: {', '.join(known)}.")
        self.comparison_id, self.variant, self.known = comparison_id, variant, known

    def __reduce__(self):
        return UnknownVariant, (self.comparison_id, self.variant, self.known)


class ComparisonNameTaken(MudmanError):
    """The name, or that of one of the studies, belongs to something else; ``existing`` is the address of that."""

    def __init__(self, message: str, existing: str, difference: dict[str, dict[str, Any]]):
        remedy = "Choose another name (`mudman compare … --set name=…`), or post the same comparison."
        super().__init__(f"{message} {remedy}")
        self.message, self.existing, self.difference = message, existing, difference

    def __reduce__(self):
        return ComparisonNameTaken, (self.message, self.existing, self.difference)


class VariantTaken(MudmanError):
    """The comparison has a variant of this name with other overrides."""

    def __init__(self, comparison_id: str, variant: str, existing: dict[str, Any]):
        super().__init__(
            f"Comparison {comparison_id} already has a variant {variant!r} with other overrides ({existing!r}). "
            "Give the new one another name."
        )
        self.comparison_id, self.variant, self.existing = comparison_id, variant, existing

    def __reduce__(self):
        return VariantTaken, (self.comparison_id, self.variant, self.existing)


@dataclass(frozen=True)
class Creation:
    comparison: Comparison
    created: bool
    """False: the same comparison was there already."""


def is_comparison_id(text: str) -> bool:
    return re.fullmatch(r"cp_[A-Za-z0-9_-]{16}", text, re.ASCII) is not None


def create(
    session: Session, spec: ComparisonSpec, *, preset: str | None = None, idempotency_key: str | None = None
) -> Creation:
    """Store the comparison and a queued study for each variant, or nothing; the same one again answers what is there.

    Studies of it that failed or were cancelled are queued again by that; not by a replay of a key. Raises
    ``ComparisonNameTaken``, or ``IdempotencyConflict`` where the owner used the key for another request.
    """
    identity = spec.identity()
    if idempotency_key and (earlier := idempotency.recall(session, spec.owner, idempotency_key)):
        comparison = get(session, earlier.comparison_id) if earlier.comparison_id else None
        if comparison is None or not (earlier.request_hash == identity or _means(comparison, identity)):
            raise IdempotencyConflict(idempotency_key)
        return Creation(comparison, created=False)
    creation = _created(session, spec, identity, preset)
    if idempotency_key:
        made = {"comparison_id": creation.comparison.id}
        idempotency.remember(session, spec.owner, idempotency_key, identity, **made)
    return creation


def _created(session: Session, spec: ComparisonSpec, identity: str, preset: str | None) -> Creation:
    while True:
        if comparison := _insert(session, spec, identity, preset):
            return Creation(comparison, created=True)
        if comparison := _same(session, spec, identity):
            return Creation(comparison, created=False)
        # It was deleted between the two, and its name is free.


def _insert(session: Session, spec: ComparisonSpec, identity: str, preset: str | None) -> Comparison | None:
    """None where the name is taken. A study's name that is taken undoes it all."""
    row = insert(Comparison).values(
        id=f"cp_{secrets.token_urlsafe(12)}",
        owner=spec.owner,
        name=spec.name,
        preset=preset,
        document=spec.document,
        hash=identity,
        labels=spec.labels,
    )
    comparison_id = session.execute(row.on_conflict_do_nothing().returning(Comparison.id)).scalar_one_or_none()
    if comparison_id is None:
        return None
    comparison = get(session, comparison_id)
    _add(session, comparison, spec.studies, spec.priority)
    return comparison


def add_variants(session: Session, comparison: Comparison, spec: ComparisonSpec) -> bool:
    """The variants of ``spec``, which is the comparison with more of them, that are not there yet: a queued study each,
    in groups of their own. ``comparison`` is ``locked``. False: all were there already. Raises
    ``ComparisonNameTaken``."""
    there = {study.variant for study in studies_of(session, comparison)}
    added = {variant: study for variant, study in spec.studies.items() if variant not in there}
    _add(session, comparison, added, spec.priority)
    if added:
        comparison.document, comparison.hash = spec.document, spec.identity()
    return bool(added)


def _add(session: Session, comparison: Comparison, added: dict[str, StudySpec], priority: int) -> None:
    groups: dict[str, str] = {}
    for variant, study in added.items():
        shared = sharing(study)
        if shared not in groups:
            groups[shared] = studies.add_group(session, priority)
        more = {"preset": comparison.preset, "comparison_id": comparison.id, "variant": variant}
        while studies.add(session, study, groups[shared], **more) is None:
            if (other := studies.named(session, comparison.owner, study.name)) is None:
                continue  # it was deleted between the two
            message = (
                f"{comparison.owner!r} already has a study named {study.name!r} ({other.id}), outside this comparison."
            )
            raise ComparisonNameTaken(message, f"/studies/{other.id}", {})


def sharing(spec: StudySpec) -> str:
    """Equal for studies that may share a lease: one runner, one loaded model, the same token batches and places."""
    shared = spec.model_dump(mode="json", include={"model", "forget", "retain", "batch"})
    place = spec.resources.model_dump(mode="json", include={"cpus", "gpus"})
    return json.dumps(shared | {"place": place, "seed": spec.seeds.data}, sort_keys=True)


def _same(session: Session, spec: ComparisonSpec, identity: str) -> Comparison | None:
    """None where it is there no more; else it stays until the transaction ends, so that a key can refer to it."""
    where = (Comparison.owner == spec.owner, Comparison.name == spec.name)
    held = select(Comparison).where(*where).with_for_update(read=True, key_share=True)
    comparison = session.scalars(held).one_or_none()
    if comparison is None:
        return None
    if not _means(comparison, identity):
        found = difference(parse_comparison(comparison.document), spec)
        shown = "; ".join(f"{path}: {pair['existing']!r} → {pair['given']!r}" for path, pair in found.items())
        message = f"{spec.owner!r} already has another comparison named {spec.name!r} ({comparison.id}: {shown})."
        raise ComparisonNameTaken(message, f"/comparisons/{comparison.id}", found)
    # In the order in which everybody locks studies.
    for study in session.scalars(select(Study).where(Study.comparison_id == comparison.id).order_by(Study.id)).all():
        studies.run_again(session, study)
    return comparison


def _means(comparison: Comparison, identity: str) -> bool:
    """Hashes of other versions of the vocabulary say nothing: the document does."""
    return comparison.hash == identity or parse_comparison(comparison.document).identity() == identity


def difference(existing: ComparisonSpec, given: ComparisonSpec) -> dict[str, dict[str, Any]]:
    """As ``studies.difference``: what differs in every study by its path in the base, the rest by variant."""
    old, new = existing.studies, given.studies
    apart = {name: studies.difference(old[name], new[name]) for name in old.keys() & new.keys()}
    common = set.intersection(*({(p, str(d)) for p, d in found.items()} for found in apart.values())) if apart else ()
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(apart):
        for path, pair in apart[name].items():
            found[path if (path, str(pair)) in common else f"variants.{name}.{path}"] = pair
    for name in sorted(old.keys() ^ new.keys()):
        found[f"variants.{name}"] = {"existing": name in old, "given": name in new}
    return found


def get(session: Session, comparison_id: str) -> Comparison:
    """Raises ``UnknownComparison``."""
    comparison = session.get(Comparison, comparison_id) if is_comparison_id(comparison_id) else None
    if comparison is None:
        raise UnknownComparison(comparison_id)
    return comparison


def locked(session: Session, comparison_id: str) -> Comparison:
    """For whoever changes which studies it has. Raises ``UnknownComparison``, also where it was deleted while this
    waited."""
    row = select(Comparison).where(Comparison.id == get(session, comparison_id).id).with_for_update()
    comparison = session.scalars(row, execution_options={"populate_existing": True}).one_or_none()
    if comparison is None:
        raise UnknownComparison(comparison_id)
    return comparison


def studies_of(session: Session, comparison: Comparison) -> list[Study]:
    """In the order of the document's variants, the baseline last."""
    found = session.scalars(select(Study).where(Study.comparison_id == comparison.id)).all()
    order = {variant: place for place, variant in enumerate(comparison.document["variants"])}
    return sorted(found, key=lambda study: order.get(study.variant, len(order)))


def delete(session: Session, comparison_id: str) -> None:
    """With its studies, all of which have finished. Raises ``UnknownComparison``, ``NotFinished``."""
    comparison = locked(session, comparison_id)
    actions.remove(session, studies_of(session, comparison))
    session.execute(delete_rows(Comparison).where(Comparison.id == comparison_id))


def overall(states: Iterable[str]) -> State:
    """The state of a comparison from those of its studies: running until all have ended, then the worst of them."""
    found = set(map(State, states))
    going_on = {state for state in found if not state.finished}
    if len(found) == 1 or going_on == {State.PAUSED}:
        return (going_on or found).pop()
    if going_on:
        return State.RUNNING
    return State.FAILED if State.FAILED in found else State.CANCELLED


def compared(session: Session, comparison_id: str, reference: str | None) -> tuple[Comparison, list[Study], str]:
    """The comparison, its studies in order, and the variant that the others are measured against. Raises
    ``UnknownComparison``, ``UnknownVariant``."""
    comparison = get(session, comparison_id)
    rows = studies_of(session, comparison)
    variants = [study.variant for study in rows]
    if reference is not None and reference not in variants:
        raise UnknownVariant(comparison_id, reference, variants)
    return comparison, rows, reference or variants[0]
