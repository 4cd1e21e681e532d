"""Keeps the turns of the event loop short, so that what comes in is soon looked at.

The loop does in one turn whatever is ready then. Hundreds of requests that came together would be
one turn of tens of milliseconds, and whoever comes meanwhile, only to be told that there are too
many, would wait for its end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

TURN_SECONDS = 0.002
"""How long a turn may be, as far as it is in our hands: no request's work is cut."""


class _Place(NamedTuple):
    """Somebody in the queue."""

    since: float
    called: asyncio.Future[None]


class Pace:
    """Lets requests begin their work a few in a turn, in the order they came. Of one event loop."""

    def __init__(self) -> None:
        self._queue: deque[_Place] = deque()
        self._began = 0.0
        self._follows = False
        self._share = 1
        self._called = 0

    async def turn(self) -> None:
        """Return at once while this turn is young and nobody waits; else wait for a later one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._follows:
            self._begin(loop, now)
        if self._queue or now - self._began > TURN_SECONDS:
            place = _Place(now, loop.create_future())
            self._queue.append(place)
            await place.called

    def age(self, now: float) -> float:
        """Return for how long (s) the first in the queue has waited; 0 if nobody has."""
        return now - self._queue[0].since if self._queue else 0.0

    def _begin(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self._began, self._follows = now, True
        loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call as many as there is time for in the next turn, going by how long the last took."""
        now = loop.time()
        if now - self._began > TURN_SECONDS:
            self._share = max(1, self._share // 2)
        elif self._called == self._share:
            self._share += 1
        self._follows = bool(self._queue)
        if not self._follows:
            self._called = 0
            return
        loop.call_soon(self._mark, loop)
        self._called = min(self._share, len(self._queue))
        for _ in range(self._called):
            called = self._queue.popleft().called
            if not called.done():  # whoever gave up meanwhile takes nobody's place
                called.set_result(None)
        loop.call_soon(self._next, loop)

    def _mark(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count from here what was called takes, and not what others took before it."""
        self._began = loop.time()
