"""Problem documents (RFC 9457) of studies that failed: what is wrong, and the remedy."""

from typing import Any

from mudman.faults import SpecError
from mudman.results import Fault
from mudman.specs import StudySpec

RUN_AGAIN = (
    "submit the same study once more (`mudman submit`; `mudman compare` for one of a comparison): it runs again, and "
    "keeps the trials that count"
)

RETRY = "give those trials another attempt (`mudman retry`)"


def unfit_spec(error: SpecError) -> dict[str, Any]:
    """The spec does not fit the data or the model, as was seen when the study was prepared."""
    faults = [
        {"pointer": fault.pointer(), "path": fault.path, "detail": fault.message, "remedy": fault.remedy}
        for fault in error.faults
    ]
    return _problem("unfit-spec", "The study cannot be run as specified", str(error), errors=faults)


def preparation_failed(fault: Fault) -> dict[str, Any]:
    """Something broke while the study was prepared."""
    detail = f"{fault.type}: {fault.message}. Remedy: mend the cause, then {RUN_AGAIN}."
    return _problem("preparation-failed", "The study could not be prepared", detail, traceback=fault.traceback)


def preparation_late(limit: float) -> dict[str, Any]:
    """A download or a driver hangs, or the limit is too short."""
    detail = (
        f"the preparation took longer than preparation_seconds ({limit:g} s) allows. Remedy: see in the log of its Ray "
        f"task what it waits for, or set MUDMAN_PREPARATION_SECONDS higher; then {RUN_AGAIN}."
    )
    return _problem("preparation-late", "The study could not be prepared in time", detail)


def sampler_failed(fault: Fault) -> dict[str, Any]:
    """The sampler broke on the trials that the study has."""
    detail = (
        f"the sampler found no hyper-parameters for the next trial: {fault.type}: {fault.message}. Remedy: submit the "
        f"study with another sampler; or mend the cause, then {RUN_AGAIN}."
    )
    return _problem("sampler-failed", "The sampler failed", detail, traceback=fault.traceback)


def too_much_waste(spec: StudySpec, wasted: int) -> dict[str, Any]:
    """Too many trials ended without counting."""
    detail = (
        f"{wasted} trials ended in an error, out of memory or lost for good, and none of them counts toward the budget "
        f"of {spec.budget.trials}. Remedy: read their outcome and fault under /trials, mend the cause, "
        f"then {RETRY}; or {RUN_AGAIN}."
    )
    return _problem("too-many-failed-trials", "Too many trials failed", detail)


def runners_failed(failures: int, reason: str) -> dict[str, Any]:
    """One runner after another ended without finishing a trial."""
    detail = (
        f"{failures} runners in a row ended without finishing a trial. The last one: {reason}. "
        f"Remedy: mend the cause (see the logs of dispatcher and runner), then {RUN_AGAIN}."
    )
    return _problem("runners-failed", "The study's runner keeps failing", detail)


def _problem(kind: str, title: str, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": f"urn:mudman:problem:{kind}", "title": title, "detail": detail, **more}
