"""Freshness: whether the features hold what the log has held for a while.

The engine may be dead, stand still before damage or a full disk, or be slower than what comes. A
worker cannot see which, but it sees what matters to a read: records that came some seconds ago and
are not in the features. It looks once in a while; a request only asks what was found.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from feilun.errors import FeilunError
from feilun.ports.event_log import EventLog
from feilun.ports.online_store import SnapshotSource

LOOK_SECONDS = 0.5
FIRST_LOOKS, FIRST_LOOK_SECONDS = 25, 0.02
"""A worker that starts while others are busy lets the engine fold what came just now, for as long
as this, before it serves."""
PATIENCE_SECONDS = 5.0
"""How long a record may be in the log before the features that lack it are stale."""


class Freshness:
    """Follows the log's end and the features' mark. Used by the event loop alone.

    Parameters
    ----------
    log : EventLog
        What is to be folded.
    store : SnapshotSource
        What says how far it is.
    seconds : callable
        The time that passes, in seconds.

    Attributes
    ----------
    stale : bool
        Whether the features lack records that have been in the log for ``PATIENCE_SECONDS``.
    """

    def __init__(
        self, log: EventLog, store: SnapshotSource, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.stale = False
        self._log = log
        self._store = store
        self._seconds = seconds
        # Nobody knows for how long what is there at the first look has been there: long enough.
        self._ends: deque[tuple[float, int]] = deque()
        self._offset, self._moved = 0, seconds()
        self._trouble = ""

    async def begin(self) -> None:
        """Look until the features hold what was there at the first look, or that takes long."""
        for _ in range(FIRST_LOOKS):
            self.look()
            if not self.stale:
                return
            await asyncio.sleep(FIRST_LOOK_SECONDS)

    async def follow(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Compare the features with where the log ended a while ago."""
        try:
            with self._store.snapshot() as snapshot:
                offset = snapshot.mark().offset
            end = self._log.end()
        except FeilunError as error:
            self.stale, self._trouble = True, str(error)
            return
        self._trouble = ""
        now = self._seconds()
        if offset != self._offset:
            self._offset, self._moved = offset, now
        self._ends.append((now if self._ends else -math.inf, end))
        while len(self._ends) > 1 and self._ends[1][0] <= now - PATIENCE_SECONDS:
            self._ends.popleft()
        since, due = self._ends[0]
        self.stale = offset < due and since <= now - PATIENCE_SECONDS

    def problem(self) -> str:
        """Return in what way the features are stale; empty where they are not."""
        if not self.stale:
            return ""
        if self._trouble:
            return f"Nobody knows how fresh the features are: {self._trouble}"
        still = int(self._seconds() - self._moved)
        return (
            f"The features are stale: records have waited for more than {PATIENCE_SECONDS:g} s. "
            f"They stand at offset {self._offset} of {self._ends[-1][1]}, and last moved {still} s "
            "ago. See whether the engine runs (feilun status), and what it says (run/engine.log in "
            "the data folder)."
        )
