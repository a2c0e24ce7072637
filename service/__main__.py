"""The API as a process of its own, logging as all of ours do: ``python -m service [--host H] [--port P]``."""

import argparse
import contextlib
import sys

import uvicorn
from uvicorn.main import STARTUP_FAILURE

from mudman import logs
from mudman.faults import MudmanError
from service.access.exposure import check_listening
from service.app import create_app
from service.store.settings import Settings

LAST_ANSWERS = 1
"""Seconds that open requests have to end when the process is asked to."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.splitlines()[0])
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8080)")
    try:
        settings = Settings(**vars(parser.parse_args(argv)))
        check_listening(settings)
        app = create_app(settings)
    except MudmanError as error:
        sys.exit(str(error))
    logs.configure(settings.log_level, settings.log_format)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # service.request_log says more
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    server = _Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class _Server(uvicorn.Server):
    async def shutdown(self, sockets=None) -> None:
        """Streams never end by themselves, and would be waited for."""
        self.config.app.state.listener.close()
        await super().shutdown(sockets)


if __name__ == "__main__":
    main(sys.argv[1:])
