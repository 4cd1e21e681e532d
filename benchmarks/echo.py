"""The least that an ASGI server does: it gives a body back. Run with a port."""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    body = (await receive())["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    from granian import Granian
    from granian.constants import Interfaces

    multiprocessing.set_start_method("spawn")
    Granian(
        "benchmarks.echo:app",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.ASGINL,
        websockets=False,
        log_enabled=False,
    ).serve()
