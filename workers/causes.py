"""Why a trial's process is gone: from what Ray says to an outcome and words with a remedy."""

import re

from ray.exceptions import OutOfMemoryError, RayActorError

from mudman.results import Fault, Outcome, TrialResult
from workers.actor import PATIENCE, STUCK

_LASTING = "The trial runs again, three times in all."


class KilledForMemory(RayActorError):
    """Ray's memory monitor killed the process. Ray says so by an exception that is no ``RayActorError``."""

    @classmethod
    def of(cls, error: OutOfMemoryError) -> "KilledForMemory":
        return cls(error_msg=str(error))


class Lost(RayActorError):
    """What the process said cannot be had. Tune then lets the process go."""

    @classmethod
    def of(cls, error: Exception) -> "Lost":
        return cls(error_msg=f"{type(error).__name__}: {' '.join(str(error).split())}")  # the last line is told


class NotStarted(RayActorError):
    """The process was killed because it did not start."""

    @classmethod
    def within(cls, seconds: float) -> "NotStarted":
        said = f"it did not start within start_seconds ({seconds:g} s) and was killed"
        return cls(error_msg=said)


def result_of(error: BaseException | None) -> TrialResult:
    """Of a trial whose process ended without handing in a result. ``error``: as Tune has it, if it has one."""
    text = str(error or "")
    if isinstance(error, KilledForMemory | OutOfMemoryError):
        return TrialResult(outcome=Outcome.OUT_OF_MEMORY, fault=_memory(text))
    return TrialResult(outcome=Outcome.LOST, fault=_lost(error, text))


def poisoned(result: TrialResult) -> TrialResult | None:
    """What a result comes to of a trial whose process can compute no more: the trial is lost. None where the process is
    sound. An error of CUDA stays in its process, and every later call there raises it again."""
    fault = result.fault
    if result.outcome is not Outcome.ERROR or fault is None:
        return None
    if fault.type != "AcceleratorError" and "CUDA error" not in fault.message:
        return None
    message = f"{fault.message.rstrip('.')}. The process ends, as nothing more can be computed in it. {_LASTING}"
    fault = fault.model_copy(update={"message": f"{message} Remedy: see the card's state (nvidia-smi, dmesg)"})
    return result.model_copy(update={"outcome": Outcome.LOST, "fault": fault})


def node_of(error: BaseException | None) -> str | None:
    """Ray's id of the node, where the error names it."""
    named = re.search(r"\bID: ([0-9a-f]{56})\b", str(error or ""))
    return named and named[1]


def _memory(text: str) -> Fault:
    used = re.search(r"Memory on the node .*", text)
    message = f"Ray's memory monitor killed the process. {used[0] if used else text[:500]}"
    remedy = "Remedy: fewer trials on a node (raise resources.cpus or gpus), a smaller batch.size, or more memory"
    return Fault(type="OutOfMemoryError", message=f"{message} {remedy}", traceback=text[:4000])


def _lost(error: BaseException | None, text: str) -> Fault:
    said = text.splitlines()[-1].strip()[:1000].rstrip(".") if text else "Ray gives no reason"
    if re.search(r"node (has )?died|node was (terminated|lost|preempted)|raylet died", text, re.IGNORECASE):
        message = f"{said}. {_LASTING} Remedy: look whether the node is up, and at its raylet's log"
        return Fault(type="NodeDied", message=message, traceback=text[:4000])
    if f"exit code {STUCK}" in text:
        said = f"the process ended itself: the trial before did not stop within {PATIENCE:g} s. {said}"
    elif "connection error code 2" in text:
        said = "killed from outside (SIGKILL, as the kernel does when memory runs out) or crashed in native code"
    elif error is not None and not isinstance(error, RayActorError):
        said = f"{type(error).__name__}: {said}"
    message = f"the trial's process ended without a result: {said}. {_LASTING} Remedy: see the node's kernel log"
    return Fault(type="WorkerDied", message=message, traceback=text[:4000])
