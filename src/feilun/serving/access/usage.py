"""What teams used, counted here and stored every few seconds: what they are charged by.

A worker that is killed loses what it counted since it last stored, at most ``FLUSH_SECONDS``
of it. One that is told to stop stores everything first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress

from feilun.clock import DAY, MINUTE, Clock
from feilun.errors import FeilunError
from feilun.ports.teams import KeyUse, TeamStore, Usage
from feilun.serving.http.caller import Caller
from feilun.serving.http.exchange import Response
from feilun.serving.metrics import Metrics

FLUSH_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Meter:
    """Counts for one worker. Called by the event loop alone.

    Parameters
    ----------
    store : TeamStore
        Where counts go.
    clock : Clock
        Says on which day, and in which minute.
    metrics : Metrics
        Shows the same counts.
    """

    def __init__(self, store: TeamStore, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._counts: Counter[tuple[int, str, str, str, int]] = Counter()
        self._uses: list[KeyUse] = []
        self._minutes: dict[tuple[str, str], int] = {}
        self._stopping = asyncio.Event()
        self._failing = False

    def key_used(self, caller: Caller, route: str) -> None:
        """Note that a key was used on a route: the first time in a minute is audited."""
        minute = self._clock.now() // MINUTE * MINUTE
        if self._minutes.get((caller.key, route)) != minute:
            self._minutes[caller.key, route] = minute
            team = caller.team.name if caller.team else ""
            self._uses.append(KeyUse(minute, caller.key, team, route))

    def answered(self, caller: Caller, scope: str, response: Response) -> None:
        """Count what a team got answers to; what has no scope costs nothing."""
        if caller.team is None or not scope or response.status != 200:
            return
        team, day = caller.team.name, self._clock.now() // DAY
        for model, version in response.used:
            self._counts[day, team, scope, model, version] += 1
            self._metrics.add(
                "feilun_usage_total", team=team, scope=scope, model=model, version=str(version)
            )

    async def follow(self) -> None:
        """Store what was counted, again and again, and once more when told to stop."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), FLUSH_SECONDS)
            await self.flush()

    def stop(self) -> None:
        """Let ``follow`` end, after it has stored what is left."""
        self._stopping.set()

    async def flush(self) -> None:
        """Store what was counted; what cannot be stored is kept for the next time."""
        counts, uses = self._counts, self._uses
        self._counts, self._uses = Counter(), []
        usage = [Usage(*names, requests) for names, requests in counts.items()]
        try:
            await asyncio.to_thread(self._store.record, usage, uses)
        except FeilunError as error:
            if not self._failing:
                _log.error("What teams used cannot be stored, and waits: %s", error)
            self._failing = True
            self._counts.update(counts)
            self._uses = uses + self._uses
        else:
            self._failing = False
