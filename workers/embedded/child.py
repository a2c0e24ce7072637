"""Run a command so that nothing of it outlives its supervisor: ``python -m workers.embedded.child -- COMMAND …``.

For commands that start processes of their own and know nothing of a lifeline, such as Ray. The wrapper adopts what they
orphan. When the lifeline breaks, on SIGTERM or SIGINT, and when the command ends by itself, everything below is ended:
SIGTERM to the command first, SIGKILL to whatever is left after the grace time. Standard library only.
"""

import os
import select
import signal
import subprocess
import sys
import time

from workers import lifeline
from workers.embedded.processes import adopt_orphans, die_with_parent, end_descendants, reap

GRACE = 3.0
"""Seconds between asking and killing."""


def main(argv: list[str]) -> int:
    command = argv[1:] if argv[:1] == ["--"] else argv
    asked_to_stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, frame: asked_to_stop.append(received))
    adopt_orphans()
    process = subprocess.Popen(command, preexec_fn=die_with_parent(signal.SIGTERM))
    descriptors = lifeline.inherited()
    while process.poll() is None and not asked_to_stop:
        # Nobody ever writes to the pipe: readable means that its other end was closed.
        if select.select(descriptors, [], [], 0.2)[0]:
            break
        reap([process])
    if process.poll() is None:
        process.terminate()
        deadline = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    end_descendants(grace=0.5, owned=[process])
    code = process.poll()
    return 128 - code if code is not None and code < 0 else code or 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # every child is gone, there is nothing left to clean up
