"""Admission: a worker lets in as many requests at a time as it answers soon.

The rest is told at once to come again a little later, the least urgent first. So whoever is let in
waits in a queue that does not grow, and the worker spends its time on answers. Where so many come
again without waiting that refusals would take most of the time, they are told later.

How many that are is found by watching how late the event loop, and the queue for a turn of it (see
``pacing``), would have been, on average, for somebody who came at any moment of an interval: no
later than the work of so many others takes, going by the rate of answers. A burst makes them late
for a moment only.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import Literal

from feilun.errors import Unavailable
from feilun.serving.http.pacing import Pace

Priority = Literal["always", "first", "second", "third"]
"""``always`` is for what operates the gateway, and is never refused."""

WAITING = 26
"""How many others' work whoever comes may wait for, on average. More do not make a worker quicker:
what it shares between requests, such as a commit, is shared by as many already."""
LATE_SECONDS = 0.015
"""How long whoever comes may wait for a turn, on average, if that work takes longer."""
TICK_SECONDS = 0.005
INTERVAL_SECONDS = 0.1
"""After so long it is judged how late the loop was."""
INTERVALS = 8
"""Over about so many the rate of answers is averaged."""
LONGEST_SECONDS = 4
"""The longest that anybody is told to wait."""
REFUSAL_SECONDS = 0.0001
"""About what a refusal takes."""
REFUSING_SHARE = 1 / 3
"""What part of the time may go into refusals. Callers who do not wait as they are asked to come
again at once, and would take all of it; they are told later then."""
BURST_SECONDS = 0.01
"""So many refusals at once as take this part of the time so long are told at once all the same."""
FEWEST, MOST = 16, 1024
"""The bounds of how many may be inside."""
SHARES: dict[Priority, float] = {"first": 1.0, "second": 0.75, "third": 0.5}
"""What part of the places each priority may fill."""


class Overloaded(Unavailable):
    """More requests than this worker can answer soon; ``seconds`` says when to come again.

    Not all at once: those who are told the same second come back as one burst.
    """

    code = "overloaded"

    def __init__(self) -> None:
        self.seconds = random.randint(1, LONGEST_SECONDS)  # noqa: S311  (it spreads, and hides nothing)
        super().__init__(
            "The gateway has more requests than it can answer soon.",
            "Send it again after the seconds in Retry-After; start more workers if this stays so.",
        )


class Admission:
    """Counts who is inside, and says how many may be. Used by the event loop alone.

    Attributes
    ----------
    limit : int
        How many may be inside now.
    inside : int
        How many are.
    most_inside : int
        How many there were at most in this interval.
    answered : int
        How many left in this interval.
    """

    def __init__(self) -> None:
        self.limit = MOST
        self.inside = 0
        self.most_inside = 0
        self.answered = 0
        self._pace = Pace()
        self._place = _Place(self)
        self._passed = 0.0
        self._late = 0.0
        self._rate = 0.0
        self._refusing = 0.0
        self._told = -math.inf

    async def refused(self) -> None:
        """Return when somebody who is refused may be told so: at once, unless very many are."""
        now = asyncio.get_running_loop().time()
        self._refusing += REFUSAL_SECONDS
        self._told = max(self._told, now - BURST_SECONDS) + REFUSAL_SECONDS / REFUSING_SHARE
        if self._told > now:
            await asyncio.sleep(self._told - now)

    def check(self, priority: Priority) -> None:
        """Raise Overloaded if all places of a priority are taken."""
        if priority != "always" and self.inside >= self.limit * SHARES[priority]:
            raise Overloaded

    async def turn(self, priority: Priority) -> None:
        """Wait, inside, until there is time to begin."""
        if priority != "always":
            await self._pace.turn()

    def place(self, priority: Priority) -> _Place:
        """Return a place, to be entered, which is held while a request is answered.

        Raises
        ------
        Overloaded
            If all places of this priority are taken.
        """
        self.check(priority)
        return self._place

    async def follow(self) -> None:
        """Watch the event loop for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            self.tick(now - due, self._pace.age(now))

    def tick(self, late: float, queued: float = 0.0) -> None:
        """Take in how late (s) loop and queue were now; change the limit at an interval's end."""
        passed = TICK_SECONDS + max(0.0, late)
        self._passed += passed
        self._late += (late + queued) * passed  # who came meanwhile waited for it
        if self._passed < INTERVAL_SECONDS:
            return
        work = max(0.0, 1 - self._refusing / self._passed)  # what refusals took makes nobody late
        # Answers come in groups, a few an interval: one interval does not tell how many they are.
        self._rate += (self.answered / self._passed - self._rate) / INTERVALS
        soon = min(LATE_SECONDS, WAITING / self._rate) if self._rate else LATE_SECONDS
        if self._late * work > soon * self._passed:
            # From how many there were, not from how many there might have been.
            self.limit = max(FEWEST, min(self.limit, self.most_inside) * 15 // 16)
        elif self.most_inside * 2 > self.limit:
            self.limit = min(MOST, self.limit + 1 + self.limit // 32)
        self._passed, self._late, self._refusing = 0.0, 0.0, 0.0
        self.most_inside, self.answered = self.inside, 0


class _Place:
    """What whoever is let in enters and leaves. One is enough for all."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __enter__(self) -> None:
        admission = self._admission
        admission.inside += 1
        admission.most_inside = max(admission.most_inside, admission.inside)

    def __exit__(self, *_: object) -> None:
        self._admission.inside -= 1
        self._admission.answered += 1
