"""What has to be stored, or read, before a runner can go on waits for a database that is away."""

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, before_sleep_log, retry_if_exception_type, wait_exponential

from service.store.database import DatabaseUnavailable
from workers.desk import Desk

log = logging.getLogger(__name__)

T = TypeVar("T")


def outlast(desk: Desk, do: Callable[[], T]) -> T:
    """``do``, as often as it takes; it may be repeated. Raises ``DatabaseUnavailable`` once the desk is halted."""
    retrying = Retrying(
        retry=retry_if_exception_type(DatabaseUnavailable),
        stop=lambda state: desk.halted,
        wait=wait_exponential(0.25, max=2),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    return retrying(do)
