"""Reads the bodies of requests: no more of each than its cap, and none for ever."""

from __future__ import annotations

import asyncio

from feilun.errors import InputError, TooLarge
from feilun.serving.http.exchange import Receive, RequestHead

BODY_SECONDS = 30.0
"""How long a client may take to send its body."""


class Bodies:
    """Reads bodies, and gives up on those that come too slowly. Used by one event loop.

    One timer is for all of them: almost every body is there when it is asked for, and a timer of
    its own would cost it more than it costs to read.
    """

    def __init__(self) -> None:
        self._began: dict[asyncio.Task[object], float] = {}  # the oldest first
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, head: RequestHead, receive: Receive, cap: int) -> bytes:
        """Return a whole body of at most ``cap`` bytes, reading no more than that of it.

        Raises
        ------
        TooLarge
            If it is larger; at once where its length is announced.
        InputError
            If the client stops sending.
        """
        length = head.content_length
        if length.isdigit() and (len(length) > 12 or int(length) > cap):
            raise _too_large(cap)
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._began[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(BODY_SECONDS, self._end_late)
        try:
            return await _received(receive, cap)
        except asyncio.CancelledError as error:
            if task not in self._late or task.uncancel() > 0:
                raise  # somebody else ended it
            raise InputError(
                f"The body was not complete after {BODY_SECONDS:.0f} s.", "Send it again."
            ) from error
        finally:
            del self._began[task]
            self._late.discard(task)

    def _end_late(self) -> None:
        """End what has waited for too long, and come again when the next may have."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task, began in self._began.items():
            if began + BODY_SECONDS > now:
                self._timer = loop.call_at(began + BODY_SECONDS, self._end_late)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()


async def _received(receive: Receive, cap: int) -> bytes:
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
