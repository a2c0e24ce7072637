"""Attaching to the Ray cluster, which may still be starting."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_exponential

from mudman.faults import MudmanError
from workers.desk import Desk

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds to wait for a Ray that does not answer: embedded, it starts beside the dispatcher."""


class RayUnavailable(MudmanError):
    """No Ray cluster answers at the configured address."""


@contextmanager
def attached(address: str, desk: Desk) -> Iterator[None]:
    """This process as a driver of the cluster. Token and its mode come from Ray's own environment variables.

    Raises ``RayUnavailable``.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(ConnectionError),
        stop=stop_after_delay(PATIENCE) | (lambda state: desk.halted),
        wait=wait_exponential(0.5, max=5),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    try:
        retrying(ray.init, address=address, logging_level=logging.WARNING)
    except ConnectionError as error:
        raise RayUnavailable(
            f"No Ray cluster answers at {address!r}: {error}. Remedy: start one, or set MUDMAN_RAY_ADDRESS."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
