"""The load generator: events over HTTP, from a process of its own. Run as a worker."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from benchmarks.data import Events, Shape
from benchmarks.ours import bodies
from benchmarks.protocol import serve

_OFFSET = re.compile(rb'"offset":(\d+)')
PROBES = 16
"""Connections that ask for features while events come in."""

_bodies: list[bytes] = []


def prepare(shape: dict[str, int], size: int, source: str) -> dict[str, int]:
    """Encode all bodies beforehand, with times of now; return how many events each user has."""
    events = recent(Shape(**shape).all())
    _bodies[:] = bodies(events, size, source)
    users, counts = np.unique(events["user_id"], return_counts=True)
    return dict(zip(map(str, users.tolist()), counts.tolist(), strict=True))


def recent(events: Events) -> Events:
    """Return the events as if they had happened just now, a microsecond apart."""
    count = len(events["time"])
    now = time.time_ns() // 1000
    return {**events, "time": np.arange(now - count, now)}


def flood(port: int, connections: int) -> dict[str, float]:
    """Send every body as fast as the connections go; return the time and how many events."""
    return asyncio.run(_flood(port, connections))


def steady(port: int, rate: float, connections: int, path: str) -> dict[str, float]:
    """Send bodies at ``rate`` events/s; time how long each is unreadable after its answer.

    After each answer a read of ``path`` asks for the last event's offset, as a client does that
    wants to see its own writes. Its reply ends the wait, so that a round trip is counted too.
    """
    return asyncio.run(_steady(port, rate, connections, path))


async def _flood(port: int, connections: int) -> dict[str, float]:
    queue = iter(_bodies)
    accepted = 0

    async def send(link: _Link) -> None:
        nonlocal accepted
        for body in queue:
            reply = await link.post("/api/events", body)
            accepted += _accepted(reply, body)

    async with _links(port, connections) as links:
        before = time.perf_counter()
        await asyncio.gather(*map(send, links))
        wall = time.perf_counter() - before
    return {"wall": wall, "events": accepted}


async def _steady(port: int, rate: float, connections: int, path: str) -> dict[str, float]:
    waits: list[float] = []
    accepted = 0
    last = 0
    due = _schedule(rate)
    async with _links(port, connections) as links, _links(port, PROBES) as probes:
        idle: asyncio.Queue[_Link] = asyncio.Queue()
        for probe in probes:
            idle.put_nowait(probe)

        async def watch(offset: int, acknowledged: float) -> None:
            probe = await idle.get()
            await probe.get(f"{path}&min_offset={offset}")
            waits.append(time.perf_counter() - acknowledged)
            idle.put_nowait(probe)

        async def send(link: _Link) -> None:
            nonlocal accepted, last
            for moment, body in due:
                await asyncio.sleep(max(0.0, moment - time.perf_counter()))
                reply = await link.post("/api/events", body)
                now = time.perf_counter()
                accepted += _accepted(reply, body)
                offset = int(_OFFSET.findall(reply[-200:])[-1])
                last = max(last, offset)
                watching.create_task(watch(offset, now))

        before = time.perf_counter()
        async with asyncio.TaskGroup() as watching:
            await asyncio.gather(*map(send, links))
        wall = time.perf_counter() - before
    waits.sort()
    return {
        "p50": waits[len(waits) // 2],
        "p99": waits[len(waits) * 99 // 100],
        "wall": wall,
        "events": accepted,
        "last": last,
    }


def _schedule(rate: float) -> Iterator[tuple[float, bytes]]:
    """Yield each body with the moment at which it is due."""
    due = time.perf_counter()
    for body in _bodies:
        yield due, body
        due += body.count(b'"event":') / rate


def _accepted(reply: bytes, body: bytes) -> int:
    """Return how many events were accepted: all, or the run means nothing."""
    accepted, sent = reply.count(b'"status":"accepted"'), body.count(b'"event":')
    if accepted != sent:
        raise RuntimeError(f"{accepted} of {sent} events were accepted: {reply[:300]!r}")
    return accepted


class _Link:
    """One kept HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: bytes) -> bytes:
        """Send JSON; return the body of the reply."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return await self._exchange(head.encode() + body)

    async def get(self, path: str) -> bytes:
        """Return the body of the reply."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    async def _exchange(self, request: bytes) -> bytes:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(re.findall(rb"content-length: *(\d+)", head)[0])
        body = await self._reader.readexactly(size)
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"The platform answered {head[:20]!r}: {body[:300]!r}")
        return body


@asynccontextmanager
async def _links(port: int, count: int) -> AsyncIterator[list[_Link]]:
    pairs: list[Any] = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield [_Link(*pair) for pair in pairs]
    finally:
        for _, writer in pairs:
            writer.close()


if __name__ == "__main__":
    serve({"prepare": prepare, "flood": flood, "steady": steady})
