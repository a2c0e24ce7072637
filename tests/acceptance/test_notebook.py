"""The notebook is run as it stands against a system of its own; only how much it does is changed."""

import signal
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from embedded_system import System
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "figure3-small.ipynb"
SHORT = {"VARIANTS": ["mudman", "no_masking"], "TRIALS": 2, "UNLEARN_PASSES": 20, "ATTACK_PASSES": 10}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    system = System()
    process = system.start("up")
    try:
        yield system.endpoint(process).url
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        system.close()


def executed(tmp_path: Path, **parameters: object) -> str:
    """Everything that it printed and showed."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    at = next(n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", []))
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    book.cells.insert(at + 1, nbformat.v4.new_code_cell(given))
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    return "\n".join(
        str(output.get("text", "")) + str(output.get("data", {}).get("image/svg+xml", "") or output.get("data", {}))
        for output in outputs
    )


def test_it_draws_the_figure_and_checks_its_evidence(url: str, tmp_path: Path):
    said = executed(tmp_path, URL=url, **SHORT)
    assert "3 studies, 5 trials," in said
    assert "completed" in said
    assert "every byte and every number agrees" in said
    assert "figure3-small: relearning" in said
    assert "raises the retain loss" in said


@pytest.mark.long
def test_the_whole_of_it(url: str, tmp_path: Path):
    said = executed(tmp_path, URL=url, NAME="whole")
    assert "6 studies, 41 trials," in said
    assert "every byte and every number agrees" in said
