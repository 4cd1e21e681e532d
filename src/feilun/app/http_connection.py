"""One HTTP/1.1 connection: Uvicorn's, parsed by llhttp, with the bounds that it leaves to proxies.

No head is longer than its cap, no request is awaited for ever, and there are not more connections
than the process can hold open.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
"""The most bytes of a request's line and headers, as far as they come in more than one piece."""
REQUEST_SECONDS = 30.0
"""How long a client may take for a whole request; what it sends after the reply counts too."""
CONNECTIONS = 1024
"""The most that are open at once."""

_REPLY = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LONG = _REPLY % b"431 Request Header Fields Too Large"
_TOO_SLOW = _REPLY % b"408 Request Timeout"
_TOO_MANY = _REPLY % b"503 Service Unavailable\r\nretry-after: 1"


class Connection(HttpToolsProtocol):
    """Takes requests in and sends replies off, on the event loop's own thread."""

    _timer: asyncio.TimerHandle | None = None
    _in_head = True
    """Whether the next byte belongs to a head, or comes before one."""
    _begun = False
    """Whether a request has begun and is not complete."""
    _head_bytes = 0
    _complete = 0
    """How many requests were complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # Uvicorn's
        """Begin; one too many is refused."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(_TOO_MANY)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and see that a request comes to its end."""
        complete = self._complete
        super().data_received(data)
        if self._in_head and complete == self._complete:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(_TOO_LONG)
                return
        else:
            self._head_bytes = 0
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._begun or not answering:
            self._wait()
        else:
            self._wait_no_longer()

    def on_message_begin(self) -> None:
        """See a request begin."""
        super().on_message_begin()
        self._begun = True

    def on_headers_complete(self) -> None:
        """See the end of its head."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See the end of it."""
        self._in_head, self._begun = True, False
        self._complete += 1
        super().on_message_complete()

    def _wait(self) -> None:
        """Wait for what is still to come of a request, not longer for each byte of it."""
        if self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self._end)

    def _end(self) -> None:
        """Wait no longer; tell so a client that has begun and got no reply yet."""
        if self._begun and (self._in_head or not self.cycle.response_started):
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()

    def _wait_no_longer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, reply: bytes) -> None:
        self._wait_no_longer()
        self.transport.write(reply)
        self.transport.close()
