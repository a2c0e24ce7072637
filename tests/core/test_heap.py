"""Large tensors reuse the process's memory inside, and glibc's own ways come back afterwards."""

import os
import platform
import subprocess
import sys

import pytest

ROUNDS, MEGABYTES = 12, 64
WORK = f"""
import resource, sys, threading, torch
from mudman.heap import large_tensors_kept

def work():
    with large_tensors_kept():
        with large_tensors_kept():
            for _ in range({ROUNDS}):  # until the heap is as large as they need
                torch.empty({MEGABYTES} * 2**18).fill_(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range({ROUNDS}):
            torch.empty({MEGABYTES} * 2**18).fill_(1)
        inside.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

inside = []
torch.set_num_threads(1)
thread = threading.Thread(target=work)
thread.start()
thread.join()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    torch.empty({MEGABYTES} * 2**18).fill_(1)
print(inside[0], resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system has another allocator")
def test_no_page_faults_inside_also_in_a_thread_and_as_many_as_ever_afterwards():
    run = subprocess.run(
        [sys.executable, "-c", WORK], env=os.environ | {"MALLOC_ARENA_MAX": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    inside, after = map(int, run.stdout.split())
    assert after > ROUNDS  # a page of the largest kind that there is would be 64 MB
    assert inside < after / 20
