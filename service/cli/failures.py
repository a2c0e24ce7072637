"""Errors on the terminal: what is wrong, field by field, the remedy, and an exit code."""

from rich.console import Console
from rich.text import Text

from mudman.faults import MudmanError, SpecError
from service.client import Refused
from service.store.settings import SettingsError

FAILED, BAD_INPUT = 1, 2
_INPUT_STATUS = {400, 401, 403, 404, 409, 413, 415, 422}


def explain(error: MudmanError) -> int:
    """Say it on stderr; returns the exit code."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    headline, faults, remedy = _parts(error)
    console.print(Text("error: ", "bold red") + Text(headline))
    for path, message, cure in faults:
        console.print(Text(f"  {path or 'the document'}: ", "bold") + Text(message))
        if cure:
            console.print(Text(f"      {cure}", "green"))
    if remedy:
        console.print(Text(remedy, "green"))
    return BAD_INPUT if _is_input(error) else FAILED


def _parts(error: MudmanError) -> tuple[str, list[tuple[str, str, str]], str]:
    if isinstance(error, Refused):
        problem = error.problem
        faults = [(f.get("path", ""), f.get("detail", ""), f.get("remedy", "")) for f in problem.get("errors") or []]
        headline = problem.get("title", "") if faults else problem.get("detail") or problem.get("title", "")
        remedy = f"There are: {', '.join(problem['known'])}" if problem.get("known") else ""
        return headline, faults, remedy
    if isinstance(error, SpecError):
        return "this input cannot be taken", [(f.path, f.message, f.remedy) for f in error.faults], ""
    message, _, remedy = str(error).partition(" Remedy: ")
    return message, [], remedy


def _is_input(error: MudmanError) -> bool:
    if isinstance(error, Refused):
        return error.status in _INPUT_STATUS
    return isinstance(error, SpecError | SettingsError)
