"""An ASGI application served over HTTP by this process: Granian, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from feilun.app.logs import LOGGING
from feilun.app.process import GRACE
from feilun.errors import Unavailable
from feilun.i18n import _

BACKLOG = 1024
"""Connections that wait to be accepted; as many may be open at once."""
SWITCH_SECONDS = 0.001
"""After so long a thread that asks for the interpreter gets it from another."""


def serve_http(application: Callable[..., Any], host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Several processes may serve one port: the system spreads connections over them.

    Parameters
    ----------
    application : ASGI application
        Told when it starts and stops (``lifespan``).
    host : str
        An IP address of this machine.
    port : int
        The port.

    Raises
    ------
    Unavailable
        If the application did not start, or its server ended by itself; the log says why.
    """
    import uvloop

    # Requests come in by a thread of the server's, which asks for the interpreter for each, and
    # would wait 5 ms for a busy event loop.
    sys.setswitchinterval(SWITCH_SECONDS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(application, host, port))


async def _serve(application: Callable[..., Any], host: str, port: int) -> None:
    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels
    from granian.server.embed import Server

    server = Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,  # HTTP/2 without TLS serves no browser, and is more to defend
        websockets=False,
        backlog=BACKLOG,
        log_dictconfig=LOGGING,
        log_level=LogLevels.error,
    )
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        signal.alarm(int(GRACE))  # by then the kernel ends us, whatever hangs
        server.stop()  # type: ignore[no-untyped-call]

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    logging.getLogger("feilun.app").info("listening on %s, port %d", host, port)
    await server.serve()
    if not told:
        raise Unavailable(_("The HTTP server ended by itself."), _("Its log says why."))
