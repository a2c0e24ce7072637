"""Memory of large tensors stays with the process, on Linux with glibc.

glibc asks the system anew for every block above 32 MiB and hands it back at once: each such tensor begins with page
faults, which can cost more than what is computed in it. Threads but the first get large blocks in no other way, unless
they share its heap (``MALLOC_ARENA_MAX=1`` in the environment before the process starts, as our nodes have it).
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h
_MIB = 2**20

_inside = False


@contextmanager
def large_tensors_kept() -> Iterator[None]:
    """Of the whole process, while it is inside; may be entered again there."""
    global _inside
    set_option = _mallopt()
    if set_option is None or _inside:
        yield
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, 2**31 - 1)
    _inside = True
    try:
        yield
    finally:
        _inside = False
        # Where glibc's own adaptation ends in a process with large tensors.
        set_option(_MMAP_MAX, 65536)
        set_option(_MMAP_THRESHOLD, 32 * _MIB)
        set_option(_TRIM_THRESHOLD, 64 * _MIB)


@cache
def _mallopt():
    """glibc's own; None elsewhere."""
    return ctypes.CDLL(None).mallopt if platform.libc_ver()[0] == "glibc" else None
