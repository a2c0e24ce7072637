"""What is made of Ray's own errors: real objects, built as Ray builds them."""

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError

from mudman.results import Outcome
from workers.causes import KilledForMemory, node_of, result_of

NODE = "dee2578feeba6d33359cd27ba3487a753fb664cf031173fcb391d2b3"
MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, "
    f"ID: {NODE}) was 1.63GB used / 23.54GB limit (0.069098)\nOOM kill reason: above the threshold\nTop 10 memory users"
)


def died(message: str) -> ActorDiedError:
    return ActorDiedError(
        ActorDiedErrorContext(error_message=message, actor_id=b"\x01" * 16, class_name="TrialActor", pid=7)
    )


@pytest.mark.parametrize(
    ("error", "type_", "words"),
    [
        (
            died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit "
                 "detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes …"),
            "WorkerDied",
            "SIGKILL",
        ),
        (
            died("The actor is dead because its worker process has died. Worker exits with an exit code 70."),
            "WorkerDied",
            "did not stop within 10 s",
        ),
        (died("The actor is dead because its node has died. Node Id: 0x1"), "NodeDied", "its node has died"),
        (
            died("The actor died.\n\tthe actor's node was terminated unexpectedly: health check"),
            "NodeDied",
            "health check",
        ),
        (ActorUnavailableError("RpcError: connection refused", None), "WorkerDied", "connection refused"),
        (ValueError("odd"), "WorkerDied", "ValueError: odd"),
        (None, "WorkerDied", "no reason"),
    ],
)  # fmt: skip
def test_lost_trials_say_what_became_of_their_process(error, type_, words):
    result = result_of(error)
    assert (result.outcome, result.fault.type) == (Outcome.LOST, type_)
    assert words in result.fault.message
    assert "Remedy" in result.fault.message


def test_a_process_that_ray_killed_for_memory_is_out_of_memory():
    for error in (OutOfMemoryError(MEMORY), KilledForMemory.of(OutOfMemoryError(MEMORY))):
        result = result_of(error)
        assert (result.outcome, result.fault.type) == (Outcome.OUT_OF_MEMORY, "OutOfMemoryError")
        assert "1.63GB used / 23.54GB limit" in result.fault.message
        assert "batch.size" in result.fault.message
        assert node_of(error) == NODE
    assert node_of(None) is node_of(died("no node named")) is None
