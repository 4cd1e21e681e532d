"""The gateway served over HTTP by this process: Uvicorn, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
from collections.abc import Generator
from typing import Any

from feilun.app.process import GRACE
from feilun.errors import Unavailable
from feilun.i18n import _
from feilun.serving.app import Gateway

BACKLOG = 1024
"""Connections that wait to be accepted."""
IDLE_SECONDS = 75
"""How long a connection may be idle between two requests."""
SWITCH_SECONDS = 0.001
"""How long the thread that writes the log waits for a loop that never rests, at each of the dozen
calls of a transaction. Python's own 5 ms would make a commit of one millisecond take forty."""
FILES = 4096
"""So many files and connections we ask to have open."""


def serve_http(gateway: Gateway, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Several processes may serve one port: the system spreads connections over them.

    Parameters
    ----------
    gateway : Gateway
        Started before the first request, stopped after the last.
    host : str
        An IP address of this machine.
    port : int
        The port.

    Raises
    ------
    FeilunError
        If the gateway cannot start.
    Unavailable
        If the server ended by itself; the log says why.
    OSError
        If the port cannot be listened on.
    """
    import uvloop

    sys.setswitchinterval(SWITCH_SECONDS)

    _ask_for_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(gateway, host, port))


async def _serve(gateway: Gateway, host: str, port: int) -> None:
    server = _server(gateway)
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        signal.alarm(int(GRACE))  # by then the kernel ends us, whatever hangs
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await gateway.start()
    try:
        with _listening(host, port) as listener:
            logging.getLogger("feilun.app").info("listening on %s, port %d", host, port)
            await server.serve([listener])
    finally:
        await gateway.stop()
    if not told:
        raise Unavailable(_("The HTTP server ended by itself."), _("Its log says why."))


def _server(gateway: Gateway) -> Any:
    import uvicorn

    from feilun.app.http_connection import Connection

    class Server(uvicorn.Server):
        """Leaves signals to us: it would raise them once more when all is done."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    config = uvicorn.Config(
        gateway,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",  # started and stopped here, for it says better what fails
        log_config=None,
        access_log=False,
        proxy_headers=False,  # anybody could send them
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(GRACE) - 1,
    )
    return Server(config)


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


def _ask_for_files() -> None:
    """Raise the number of files that may be open, which is low by default, as far as we may."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and now < FILES:
        wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
