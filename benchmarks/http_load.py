"""The load on a gateway: kept connections, each with one request under way. Run as a worker.

A loop over epoll, with as little work a request as Python allows, so that what is measured is the
server; it sends some 40,000 requests/s to a server that is quick enough.
"""

from __future__ import annotations

import heapq
import json
import random
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.protocol import serve

_requests: list[bytes] = []


def prepare(path: str, bodies: list[Any]) -> None:
    """Make the requests that are sent in turns: POSTs of JSON."""
    encoded = [json.dumps(body).encode() for body in bodies]
    _requests[:] = [
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
        for body in encoded
    ]


@dataclass
class _Link:
    """A connection: when its request was sent, and what came back so far."""

    socket: socket.socket
    sent: float = 0.0
    reply: bytes = b""


@dataclass
class _Count:
    """What a flood counted from ``since`` on."""

    since: float
    waits: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


def flood(
    port: int, connections: int, warm: float, seconds: float, patient: bool = False
) -> dict[str, float]:
    """Send requests for some seconds, each connection the next once the last was answered.

    A ``patient`` connection that was refused waits as long as the reply asks it to and up to as
    long again, by chance, as well-behaved clients do; all others send the next at once.

    Returns
    -------
    dict
        ``rate`` (answers 200 a second), ``p50`` and ``p99`` of their times (s), ``refused`` (429
        and 503 a second) and ``refused_p99`` (s).

    Raises
    ------
    RuntimeError
        If anything else is answered.
    """
    poller = select.epoll()
    links: dict[int, _Link] = {}
    number = 0
    waiting: list[tuple[float, int]] = []
    count = _Count(time.perf_counter() + warm)
    end = count.since + seconds
    try:
        for _ in range(connections):
            link = _Link(socket.create_connection(("127.0.0.1", port)))
            link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            links[link.socket.fileno()] = link
            poller.register(link.socket.fileno(), select.EPOLLIN)
            number = _send(link, number)
        while (now := time.perf_counter()) < end:
            while waiting and waiting[0][0] <= now:
                number = _send(links[heapq.heappop(waiting)[1]], number)
            until = min(end, waiting[0][0]) if waiting else end
            for descriptor, _ in poller.poll(max(0.0, until - now)):
                link = links[descriptor]
                if _received(link):
                    pause = _note(link, count)
                    if patient and pause:
                        pause *= 1 + random.random()  # noqa: S311
                        heapq.heappush(waiting, (time.perf_counter() + pause, descriptor))
                    else:
                        number = _send(link, number)
    finally:
        poller.close()
        for link in links.values():
            link.socket.close()
    return _summary(count, seconds)


def reply(port: int, number: int = 0) -> Any:
    """Return the decoded reply to one of the requests."""
    link = _Link(socket.create_connection(("127.0.0.1", port), timeout=30))
    with link.socket:
        _send(link, number)
        while not _received(link):
            pass
    if not link.reply.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"The server answered {link.reply[:500]!r}")
    return _json(link.reply)


def _send(link: _Link, number: int) -> int:
    link.reply = b""
    link.sent = time.perf_counter()
    link.socket.sendall(_requests[number])
    return (number + 1) % len(_requests)


def _received(link: _Link) -> bool:
    """Take what has come; say whether it is the whole reply."""
    data = link.socket.recv(1 << 18)
    if not data:
        raise RuntimeError(f"The server closed a connection after {link.reply[:300]!r}")
    link.reply += data
    head, end, body = link.reply.partition(b"\r\n\r\n")
    if not end:
        return False
    head = head.lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        return len(body) >= int(head[at + 17 :].split(b"\r\n", 1)[0])
    if b"\r\ntransfer-encoding: chunked" not in head:
        raise RuntimeError(f"A reply without its length: {head[:300]!r}")
    return body.endswith(b"\r\n0\r\n\r\n")


def _json(reply: bytes) -> Any:
    """Decode the body of a whole reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" not in head.lower():
        return json.loads(body)
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    return json.loads(whole)


def _note(link: _Link, count: _Count) -> float:
    """Count a reply; return for how long (s) it asks to send nothing."""
    now = time.perf_counter()
    status = link.reply[9:12]
    if status == b"200":
        if now >= count.since:
            count.waits.append(now - link.sent)
        return 0.0
    if status not in (b"429", b"503"):
        raise RuntimeError(f"The server answered {link.reply[:500]!r}")
    if now >= count.since:
        count.refused.append(now - link.sent)
    return float(link.reply.lower().partition(b"\r\nretry-after: ")[2].partition(b"\r\n")[0])


def _summary(count: _Count, seconds: float) -> dict[str, float]:
    waits, refused = sorted(count.waits), sorted(count.refused)
    if not waits:
        raise RuntimeError("The server answered no request in time.")
    return {
        "rate": len(waits) / seconds,
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
        "refused": len(refused) / seconds,
        "refused_p99": refused[len(refused) * 99 // 100] if refused else 0.0,
    }


if __name__ == "__main__":
    serve({"prepare": prepare, "flood": flood, "reply": reply})
