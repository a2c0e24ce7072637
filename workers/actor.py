"""A place on a worker node: Tune's class interface around ``mudman.run_trial``.

A place is one process that holds a trial's cores and cards for as long as its group has use for them, and runs one
trial after the other, so that the core's caches (model, snapshot, tokens) stay warm. To Tune it is a single long trial;
each of its results is a word of whatever runs there. Nothing is ever raised here: Tune would kill the process, and the
caches with it. Errors are results.
"""

import contextlib
import logging
import os
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from mudman import artifacts, logs, run_trial
from mudman.checkpoints import CARD, Keeping
from mudman.results import Curve, Decision, Fault, Outcome, Point, Progress, TrialResult
from mudman.specs import StudySpec
from workers.orders import Order, Word, versions
from workers.whereabouts import whereabouts

log = logging.getLogger(__name__)

HEARTBEAT = 0.8
"""Seconds after which ``step`` returns at the latest: a stop order is delivered between two steps."""
FIRST_WORD = 0.02
"""Seconds until a trial's first word at the latest: it says where the trial runs, or how a very short one ended."""
IDLE = 0.05
"""Seconds between two words of a place that has no trial: the next one is given to it between two steps."""
PATIENCE = 10.0
"""Seconds that a trial has to obey a stop order; then its process ends."""
STUCK = 70
"""Exit status of a process whose trial did not obey."""

WORD = "word"
"""Key of the reported result: a ``Word`` as JSON."""


class TrialActor(Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        # Of this node: the runner's settings stay with the runner.
        logs.configure(os.environ.get("MUDMAN_LOG_LEVEL", "INFO"), os.environ.get("MUDMAN_LOG_FORMAT", "text"))
        self._place = whereabouts()
        self._trial: RunningTrial | None = None

    def begin(self, order: str) -> None:
        """The next trial, an ``Order`` as JSON. The one before has ended."""
        self.cleanup()
        self._trial = RunningTrial(order, self._place)

    def step(self) -> dict[str, Any]:
        return {WORD: self._word().model_dump_json()}

    def halt(self) -> None:
        """The trial is to stop between two passes: nobody waits for it any more."""
        if self._trial is not None:
            self._trial.stop()

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.end()

    def _word(self) -> Word:
        if self._trial is None:
            if self.iteration:
                time.sleep(IDLE)
            return Word(worker=self._place)
        word = self._trial.word()
        if word.result is not None:
            self._trial.end()
            self._trial = None
        return word


class RunningTrial:
    """One trial in a thread of its own, watched from the actor's."""

    def __init__(self, order: str, place: dict[str, Any]):
        """``place``: node, host, process and device."""
        self._place = place
        self._named: dict[str, Any] = {}
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._latest: Progress | None = None
        self._points: dict[str, list[Point]] = {"unlearn": [], "relearn": []}
        self._result: TrialResult | None = None
        self._patience = FIRST_WORD
        self._thread = threading.Thread(target=self._run, args=(order,), name="trial", daemon=True)
        self._thread.start()

    def word(self) -> Word:
        """What there is to say: at once when the trial has ended, otherwise after a moment, and ``HEARTBEAT`` from then
        on."""
        self._ended.wait(self._patience)
        self._patience = HEARTBEAT
        with self._lock:
            return Word(worker=self._place, progress=self._progress(), result=self._result)

    def stop(self) -> None:
        """Ask the trial to end between two passes; it is not waited for."""
        self._stop.set()

    def end(self) -> None:
        """Stop the trial and wait for its end. One that does not obey takes the whole process with it."""
        self.stop()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            log.error("the trial did not stop within %g s: this process ends", PATIENCE, extra=self._named)
            os._exit(STUCK)

    def _run(self, order: str) -> None:
        try:
            read = Order.model_validate_json(order)
            self._named = read.log_fields
            logs.about(**self._named)
            result = _result(read, self._report)
        except BaseException as error:  # noqa: BLE001 - whatever is raised in a trial is the trial's result
            out_of_memory = isinstance(error, MemoryError)
            fault = Fault(type=type(error).__name__, message=str(error), traceback=traceback.format_exc())
            result = TrialResult(outcome=Outcome.OUT_OF_MEMORY if out_of_memory else Outcome.ERROR, fault=fault)
        with self._lock:
            self._result = result
        self._ended.set()

    def _report(self, progress: Progress) -> Decision:
        with self._lock:
            self._latest = progress
            if progress.point:
                self._points[progress.phase].append(progress.point)
        return Decision.STOP if self._stop.is_set() else Decision.CONTINUE

    def _progress(self) -> dict[str, Any] | None:
        if self._latest is None:
            return None
        return {
            "phase": self._latest.phase,
            "passes": self._latest.passes,
            "of": self._latest.of,
            "unlearning": Curve.of(self._points["unlearn"]).model_dump(mode="json"),
            "relearning": Curve.of(self._points["relearn"]).model_dump(mode="json"),
        }


def _result(order: Order, report) -> TrialResult:
    if order.versions != versions():
        message = f"the runner has {order.versions}, this worker has {versions()}. Remedy: give both the same image"
        return TrialResult(outcome=Outcome.ERROR, fault=Fault(type="VersionMismatch", message=message))
    spec = order.spec.for_trial(order.ordinal)
    if spec.repeats and spec.repeats.keep:
        return _kept(order, spec, report)
    return run_trial(spec, order.hyperparameters, report, order.cuts)


def _kept(order: Order, spec: StudySpec, report) -> TrialResult:
    """The trial, and its weights in the artifact store: under a key of this attempt alone, the manifest last. What
    earlier attempts left there is removed, and so is what this one wrote, where it keeps nothing in the end. Raises
    ``ArtifactsUnavailable``."""
    store, trial = artifacts.here(), f"{order.study_id}/{order.ordinal}"
    for earlier in range(1, order.attempt):
        store.remove(f"{trial}-{earlier}")
    key, kept = f"{trial}-{order.attempt}", None
    try:
        result = _written(store, key, order, spec, report)
        kept = result.checkpoint
        return result
    finally:
        if kept is None:
            with contextlib.suppress(artifacts.ArtifactsUnavailable):  # how the trial ended says more
                store.remove(key)


def _written(store: artifacts.Artifacts, key: str, order: Order, spec: StudySpec, report) -> TrialResult:
    store.put_bytes(f"{key}/{CARD}", b"Not finished.\n")  # a store that takes nothing is known before hours of work
    with tempfile.TemporaryDirectory(prefix="mudman-checkpoint-") as folder:
        keeping = Keeping.of(spec, order.ordinal, Path(folder))
        result = run_trial(spec, order.hyperparameters, report, keeping=keeping)
        if result.checkpoint is None:
            return result
        for file in result.checkpoint.files:
            store.put(f"{key}/{file.name}", Path(folder) / file.name)
    return result.model_copy(update={"checkpoint": result.checkpoint.model_copy(update={"key": key})})
