"""Commands that stand in the documentation: how they are found, and what has to be put in for what a reader puts in."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PROMPT = re.compile(r"(?:\w+)?\$ +(.*)")
_HEREDOC = re.compile(r"<<'?(\w+)'?")


@dataclass(frozen=True)
class Command:
    """One command of a ``console`` block, as it stands there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def files() -> list[Path]:
    """Every document that may tell a reader to run something."""
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("deploy/**/*.md"))]


def commands(path: Path) -> list[Command]:
    """In order. A line that begins with a prompt is a command; one that ends with a backslash goes on, and so does a
    here-document to its end. All other lines are what it printed."""
    found, lines, inside = [], iter(enumerate(path.read_text("utf-8").splitlines(), 1)), False
    name = str(path.relative_to(ROOT))
    for number, line in lines:
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and (prompt := _PROMPT.match(line)):
            text = prompt[1]
            while text.endswith("\\"):
                text += "\n" + next(lines)[1]
            if document := _HEREDOC.search(text):
                while text.splitlines()[-1] != document[1]:
                    text += "\n" + next(lines)[1]
            found.append(Command(name, number, text))
    return found
