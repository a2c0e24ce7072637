"""End this process when its supervisor is gone, even one that was killed with -9. Standard library only.

The supervisor holds the writing end of a pipe that nobody writes to; its descendants inherit the reading end, named in
``MUDMAN_LIFELINE_FD``. When the supervisor dies the kernel closes its end, and every reader sees the end of file.
Whoever starts processes of its own hands the pipe on: ``subprocess.Popen(..., pass_fds=lifeline.inherited())``.
"""

import os
import threading

VARIABLE = "MUDMAN_LIFELINE_FD"
EXIT_CODE = 75
"""EX_TEMPFAIL: nothing was wrong with the work."""


def inherited() -> tuple[int, ...]:
    """The pipe's descriptor, for ``pass_fds``; empty outside the embedded system."""
    value = os.environ.get(VARIABLE)
    return (int(value),) if value else ()


def watch() -> None:
    """Start a thread that ends this process at once when the supervisor is gone. Without the variable: nothing.

    At once, without clean-up: leases, fencing and result-first commits are made for processes that vanish.
    """
    for descriptor in inherited():
        follow(descriptor)


def follow(descriptor: int) -> None:
    """As ``watch``, over the reading end of any such pipe."""
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    if os.read(descriptor, 1) == b"":
        os._exit(EXIT_CODE)
