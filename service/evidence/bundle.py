"""Writing a bundle: first the trials, as they come out of the store; then what follows from them."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, BinaryIO

from mudman import provenance
from service.evidence import derived
from service.evidence.archive import Writer, as_json
from service.evidence.gathered import Gathered
from service.export import ExportedComparison, ExportedStudy, ExportedTrial
from service.figures.rendering import render
from service.figures.style import Figure
from service.store.exports import Whole
from service.store.tables import Comparison, Study

FORMAT, VERSION = "mudman-evidence", 1
STUDY, TRIALS, COMPARISON, PUBLISHED, README = (
    "study.json", "trials.jsonl.gz", "comparison.json", "published.json", "README.txt"
)  # fmt: skip
CONFIRMATION = "confirmation/"
_README = """Evidence of an unlearning study, or of a comparison of several, made by mudman.

Check it, without a network or a server:    mudman verify THIS.zip

study.json        what was asked and what it ran on: spec, hashes of code, model and texts, seeds, machine, baseline
trials.jsonl.gz   every finished attempt, one a line: hyper-parameters, outcome, all curves, node, code
spec.json         the spec in full, with every default and seed
statistics.json   means, errors, intervals, convergence, compute: they follow from the trials
best.json         the best valid trial
confirmation/     the study that ran the best ones again on fresh seeds, and its trials
figures/          drawings, each beside its definition with the data in it
comparison.json   of a comparison: its document; table.json: its table; published.json: results it is shown beside
studies/ID/       of a comparison: the above for each of its studies
manifest.json     SHA-256 of every file
"""


class Bundle:
    """Files are written as they are known; what is kept in memory are the numbers of trials, never their curves."""

    def __init__(self, file: BinaryIO, *, seed: int = 0):
        """``seed``: of the bootstrap."""
        self._out, self._seed = Writer(file), seed
        self._studies: list[Gathered] = []
        self._out.add(README, _README.encode())

    def study(
        self,
        study: Study,
        attempts: Iterable[Whole],
        confirming: tuple[Study, Iterable[Whole]] | None = None,
        folder: str = "",
    ) -> None:
        """Its description and all its trials; and those of its latest confirmation."""
        found = self._written(study, attempts, folder)
        if confirming is not None:
            found.confirmation = self._written(*confirming, folder + CONFIRMATION)
        self._studies.append(found)

    def _written(self, study: Study, attempts: Iterable[Whole], folder: str) -> Gathered:
        plain = {name: getattr(study, name) for name in ExportedStudy.model_fields}
        found = Gathered(ExportedStudy(**plain))
        self._out.document(folder + STUDY, found.study.model_dump(mode="json"))
        with self._out.lines(folder + TRIALS) as write:
            for one in attempts:
                trial = ExportedTrial.model_construct(**one.finished._asdict())
                write({**trial.model_dump(mode="json"), "worker": one.worker, "result": one.result})
                found.add(trial, one.result)
        return found

    def finish_study(self) -> None:
        """What follows from the trials of the one study, and the manifest."""
        [found] = self._studies
        self._derived(found, "")
        self._out.finish(self._about("study"))

    def finish_comparison(self, comparison: Comparison, reference: str, published: Mapping[str, str]) -> None:
        """What follows from the trials of all studies, which are in the order of the variants, and the manifest."""
        plain = {name: getattr(comparison, name) for name in ExportedComparison.model_fields}
        about = ExportedComparison(**plain)
        self._out.document(COMPARISON, about.model_dump(mode="json"))
        self._out.document(PUBLISHED, dict(published))
        table = derived.table_of_comparison(about, self._studies, reference, self._seed, published)
        self._out.document(derived.TABLE, table.model_dump(mode="json"))
        self._figures(derived.figures_of_comparison(table, self._studies, published), "")
        for found in self._studies:
            self._derived(found, folder_of(found.study.id))
        order = [found.study.id for found in self._studies]
        self._out.finish(self._about("comparison") | {"reference": reference, "studies": order})

    def _derived(self, found: Gathered, folder: str) -> None:
        for name, document in derived.numbers_of_study(found, self._seed).items():
            self._out.document(folder + name, document)
        self._figures(derived.figures_of_study(found), folder)

    def _figures(self, figures: Mapping[str, Figure], folder: str) -> None:
        for name, figure in figures.items():
            self._out.add(f"{folder}figures/{name}.json", as_json(figure))
            self._out.add(f"{folder}figures/{name}.svg", render(figure, "svg").content)

    def _about(self, kind: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": kind,
            "seed": self._seed,
            "made_by": {
                **provenance.code(),
                "python": platform.python_version(),
                "vl-convert-python": version("vl-convert-python"),
            },
        }


def folder_of(study_id: str) -> str:
    return f"studies/{study_id}/"
