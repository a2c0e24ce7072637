"""The dispatcher's hold on its observer: a child process that is started again whenever it ends."""

import logging
import subprocess
import sys
import time
from dataclasses import dataclass

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds until an observer that ended is started again, at most; the first time one second."""
STEADY = 60.0
"""An observer that lived for so many seconds found its cluster: the next pause is a short one."""
PATIENCE = 5.0


@dataclass
class Watcher:
    environment: dict[str, str]
    process: subprocess.Popen | None = None
    pause: float = 1.0
    started: float = 0.0
    due: float = 0.0
    """When the next one may start (monotonic seconds)."""

    def keep(self) -> None:
        """See to it that there is one."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            if now - self.started > STEADY:
                self.pause = 1.0
            log.warning("the observer ended with %d: again in %g s", self.process.returncode, self.pause)
            self.process, self.due, self.pause = None, now + self.pause, min(2 * self.pause, LONGEST_PAUSE)
        if self.process is None and now >= self.due:
            # It ends when its standard input does. The writing end is ours alone: the kernel closes it with us.
            command = [sys.executable, "-m", "workers", "observer"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.PIPE, start_new_session=True
            )
            self.started = now

    def end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
