"""The API as a real server on a port of its own: for commands, browsers, and streams, which test clients never end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI


@contextmanager
def served(app: FastAPI, log_level: str = "warning") -> Iterator[str]:
    """Inside, ``app`` answers at this address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level=log_level))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it listened"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        app.state.listener.close()
        thread.join()
