"""Reads the bodies of requests: no more of each than its cap.

That none takes for ever is the connection's business: it gives a whole request its time, and then
the client is gone.
"""

from __future__ import annotations

from feilun.errors import InputError, TooLarge
from feilun.serving.http.exchange import Receive, RequestHead


async def read_body(head: RequestHead, receive: Receive, cap: int) -> bytes:
    """Return a whole body of at most ``cap`` bytes, reading no more than that of it.

    Raises
    ------
    TooLarge
        If it is larger; at once where its length is announced.
    InputError
        If the client goes away.
    """
    length = head.content_length
    if length.isdigit() and (len(length) > 12 or int(length) > cap):
        raise _too_large(cap)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InputError("The client went away before its body was complete.")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > cap:
            raise _too_large(cap)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(cap: int) -> TooLarge:
    return TooLarge(f"The body is larger than {cap} bytes.", "Send less in one request.")
