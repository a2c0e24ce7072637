"""Logging of the worker processes: to standard error, by ``MUDMAN_LOG_LEVEL``, in UTC."""

import logging
import os
import time


def configure_logging() -> None:
    """Raises ``ValueError`` for a level that is none."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=os.environ.get("MUDMAN_LOG_LEVEL", "INFO").upper(), handlers=[handler], force=True)
    for chatty in ("alembic", "optuna", "ray"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Tune looks for files of loggers that are turned off.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
