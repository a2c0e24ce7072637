"""Checking a bundle, offline: every byte against the manifest, and every number against the trials."""

import re
from dataclasses import dataclass, field
from html import unescape
from itertools import takewhile
from pathlib import Path
from typing import Any

from mudman.results import Outcome, TrialResult
from mudman.specs import StudySpec
from service import repeated
from service.agreement import differing
from service.evidence import derived, trial_numbers
from service.evidence.archive import Damaged, NoBundle, Reader
from service.evidence.bundle import COMPARISON, CONFIRMATION, FORMAT, PUBLISHED, STUDY, TRIALS, VERSION, folder_of
from service.evidence.gathered import Gathered
from service.export import FOREIGN, ExportedComparison, ExportedStudy, ExportedTrial
from service.figures.rendering import render
from service.figures.style import Figure


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    kind: str
    faults: list[str] = field(default_factory=list)
    """A line each: the file, the number in it, and both values."""
    files: int = 0
    studies: int = 0
    trials: int = 0
    numbers: int = 0
    """That were computed again, those of figures included."""


def verify(path: Path) -> Report:
    """Raises ``NoBundle``. Trusts nothing in the file: it may come from anywhere."""
    bundle = Reader(path)
    about = bundle.manifest
    kind = about.get("kind")
    known = isinstance(kind, str) and kind in _KINDS
    if (about.get("format"), about.get("version")) != (FORMAT, VERSION) or not known:
        raise NoBundle(f"{path} is no evidence bundle of a version that is read here")
    report = Report(kind, files=len(bundle.names))
    check = _Check(bundle, report)
    for name, fault in bundle.changed():
        check.fault(name, fault)
    try:
        _KINDS[report.kind](check)
        if not report.faults and not bundle.is_as_written():
            check.fault(path.name, "bytes between its files were changed")
    except Damaged as damage:
        check.fault(path.name, str(damage))
    except FOREIGN as error:
        check.fault(path.name, f"cannot be checked to its end: {type(error).__name__}: {error}")
    return report


class _Check:
    def __init__(self, bundle: Reader, report: Report):
        self.bundle, self.report = bundle, report
        seed = bundle.manifest.get("seed")
        self.seed = seed if isinstance(seed, int) and 0 <= seed < 2**32 else 0

    def fault(self, file: str, said: str) -> None:
        self.report.faults.append(f"{file}: {said}")

    def compare(self, name: str, computed: Any) -> None:
        """A document against what it should be."""
        try:
            stated = self.bundle.document(name)
        except Damaged as damage:
            return self.fault(name, str(damage))
        self.report.numbers += _numbers(computed)
        for line in differing(stated, computed, ""):
            self.fault(name, line)
        return None

    def figures(self, folder: str, figures: dict[str, Figure]) -> None:
        for name, figure in figures.items():
            file = f"{folder}figures/{name}"
            known = len(self.report.faults)
            self.compare(f"{file}.json", figure)
            if len(self.report.faults) > known:  # what others wrote is not drawn here
                continue
            try:
                definition, drawn = self.bundle.document(f"{file}.json"), self.bundle.read(f"{file}.svg")
                again = render(definition, "svg").content
            except (Damaged, ValueError) as damage:
                self.fault(f"{file}.svg", str(damage))
                continue
            if changed := sorted(_words(again) ^ _words(drawn)):
                self.fault(f"{file}.svg", f"is another drawing of its definition, or of other numbers: {changed[0]!r}")
        had = re.compile(re.escape(f"{folder}figures/") + r"([^/]+)\.(json|svg)")
        for file in self.bundle.names:
            if (found := had.fullmatch(file)) and found[1] not in figures:
                self.fault(file, "is a figure that does not follow from the trials")

    def gathered(self, folder: str) -> Gathered | None:
        """A study with its trials, each of them checked; None where its description cannot be read."""
        try:
            about = ExportedStudy.model_validate(self.bundle.document(folder + STUDY))
            spec = StudySpec.model_validate(about.spec)
            found = Gathered(about)
        except (Damaged, *FOREIGN) as error:
            return self.fault(folder + STUDY, str(error))
        self.report.studies += 1
        if spec.identity() != about.spec_hash:
            self.fault(folder + STUDY, f"spec_hash: {about.spec_hash!r} is stated, {spec.identity()!r} comes out")
        if baseline := (about.preparation or {}).get("baseline"):
            self._baseline(folder, spec, baseline)
        place = (-1, -1)
        try:
            for number, line in enumerate(self.bundle.lines(folder + TRIALS), 1):
                place = self._trial(folder, number, line, spec, found, place)
        except Damaged as damage:
            self.fault(folder + TRIALS, str(damage))
        if folder + CONFIRMATION + STUDY in self.bundle.names:
            self._confirmation(folder + CONFIRMATION, found)
        return found

    def _confirmation(self, folder: str, of: Gathered) -> None:
        """The study that ran the best of this one again, and that it did."""
        of.confirmation = self.gathered(folder)
        if of.confirmation is not None:
            for said in repeated.disagreements(of.study.id, of.trials, of.confirmation.study):
                self.fault(folder + STUDY, f"spec.{said}")

    def _trial(
        self, folder: str, number: int, line: Any, spec: StudySpec, found: Gathered, before: tuple[int, int]
    ) -> tuple[int, int]:
        where = f"line {number}"
        try:
            result = line.pop("result")
            line.pop("worker")
            trial = ExportedTrial.model_validate(line)
            read = None if result is None else TrialResult.model_validate({**result, "log": ""})
            found.add(trial, result)
            disagreeing = list(trial_numbers.disagreements(spec, trial, read))
        except FOREIGN as error:
            self.fault(folder + TRIALS, f"{where}: {error}")
            return before
        self.report.trials += 1
        if (place := (trial.ordinal, trial.attempt)) <= before:
            self.fault(folder + TRIALS, f"{where}: trial {trial.ordinal}, attempt {trial.attempt} is out of order")
        if _counts_again(found):
            self.fault(folder + TRIALS, f"{where}: trial {trial.ordinal} counts a second time")
        self.report.numbers += len(trial_numbers.SAME) * (read is not None)
        for said in disagreeing:
            self.fault(folder + TRIALS, f"{where} (trial {trial.ordinal}): {said}")
        return place

    def _baseline(self, folder: str, spec: StudySpec, stated: dict[str, Any]) -> None:
        try:
            bare = spec.model_copy(update={"constraint": None})
            disagreeing = list(trial_numbers.of_result(bare, TrialResult.model_validate(stated)))
        except FOREIGN as error:
            return self.fault(folder + STUDY, f"preparation.baseline: {error}")
        for said in disagreeing:
            self.fault(folder + STUDY, f"preparation.baseline.{said}")
        return None

    def study(self, found: Gathered, folder: str) -> None:
        for name, document in derived.numbers_of_study(found, self.seed).items():
            self.compare(folder + name, document)
        self.figures(folder, derived.figures_of_study(found))


def _study(check: _Check) -> None:
    if found := check.gathered(""):
        check.study(found, "")


def _comparison(check: _Check) -> None:
    ids = check.bundle.manifest.get("studies")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise NoBundle("the manifest names no studies")
    studies = [check.gathered(folder_of(one)) for one in ids]
    if None in studies:
        return None
    try:
        about = ExportedComparison.model_validate(check.bundle.document(COMPARISON))
        published = check.bundle.document(PUBLISHED)
        reference = check.bundle.manifest.get("reference")
        table = derived.table_of_comparison(about, studies, reference, check.seed, published)
        figures = derived.figures_of_comparison(table, studies, published)
    except (Damaged, *FOREIGN) as error:
        return check.fault(COMPARISON, f"cannot be read: {error}")
    check.compare(derived.TABLE, table.model_dump(mode="json"))
    check.figures("", figures)
    for one, found in zip(ids, studies, strict=True):
        check.study(found, folder_of(one))
    return None


def _counts_again(found: Gathered) -> bool:
    """Whether the last attempt counts toward the budget, and an earlier one at the same trial does too."""
    ordinal = found.trials[-1].ordinal
    same = [one.outcome in _COUNTING for one in takewhile(lambda one: one.ordinal == ordinal, reversed(found.trials))]
    return same[0] and any(same[1:])


_COUNTING = {outcome for outcome in Outcome if outcome.counts}
_KINDS = {"study": _study, "comparison": _comparison}


def _numbers(document: Any) -> int:
    if isinstance(document, dict):
        return sum(_numbers(one) for one in document.values())
    if isinstance(document, list):
        return sum(_numbers(one) for one in document)
    return isinstance(document, int | float) and not isinstance(document, bool)


_SAID = re.compile(rb'aria-label="([^"]*)"|<text[^>]*>([^<]*)</text>')


def _words(drawing: bytes) -> set[str]:
    """What a drawing says: texts, and the numbers of its marks. Where they stand depends on the fonts of a machine."""
    return {unescape((label or text).decode(errors="replace")) for label, text in _SAID.findall(drawing)}
