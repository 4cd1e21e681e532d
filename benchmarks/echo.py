"""The least that an ASGI server does: it gives a body back. Run with a port."""

from __future__ import annotations

import sys
from typing import Any


async def app(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request."""
    body = (await receive())["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
    )
