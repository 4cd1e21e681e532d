"""The engine's process: folds what the log has and the store has not, until it is told to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from feilun.app.process import Stop
from feilun.errors import CorruptData, Unavailable
from feilun.ports.event_log import EventLog

SHORTEST_PAUSE = 0.001
LONGEST_PAUSE = 0.02
LOOK_AGAIN = 1.0
"""Seconds without a new record after which it looks what else there is: what was released meanwhile
may read what is not folded yet."""
CHECK_SHARE = 0.01
"""The part of the time in which it checks what is stored, while no record comes."""
STILL_PAUSE = 1.0
"""Seconds before it tries again where the disk is full, or what it must read is damaged."""

logger = logging.getLogger("feilun.engine")


class Folder(Protocol):
    """What the loop needs of `feilun.features.engine.Engine`."""

    def run_once(self, limit: int = ...) -> int:
        """Fold up to ``limit`` records; return how many."""
        ...

    def check(self) -> int:
        """Check some of what is stored; return how much is found damaged."""
        ...


class Folding:
    """Folds, or stands still: the features stay as they are, and the gateway says so.

    Parameters
    ----------
    engine : Folder
        What folds.
    """

    def __init__(self, engine: Folder) -> None:
        self._engine = engine
        self._trouble = ""

    def once(self) -> int | None:
        """Fold what has come; return how many records, or None where it cannot now."""
        return self._tried(self._engine.run_once)

    def check(self) -> int | None:
        """Check some of what is stored; return how much is damaged, None where it cannot now."""
        return self._tried(self._engine.check)

    def _tried(self, work: Callable[[], int]) -> int | None:
        try:
            done = work()
        except (Unavailable, CorruptData) as error:
            if self._trouble != (trouble := str(error)):  # it tries every second, maybe for days
                self._trouble = trouble
                logger.error("cannot fold now: %s", trouble)
            return None
        self._trouble = ""
        return done


def run(folding: Folding, log: EventLog, stop: Stop) -> None:
    """Fold until told to stop. Looks for new records every 1 ms, less often while none come."""
    pause = SHORTEST_PAUSE
    seen, looked, next_check = -1, 0.0, 0.0
    while not stop:
        end, now = log.end(), time.monotonic()
        if end == seen and now - looked < LOOK_AGAIN:
            if now >= next_check:
                if folding.check():
                    looked = -LOOK_AGAIN  # it is mended at once
                next_check = now + (time.monotonic() - now) / CHECK_SHARE
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_PAUSE)
            continue
        folded = folding.once()
        if folded is None:
            time.sleep(STILL_PAUSE)
            continue
        if end != seen:
            pause = SHORTEST_PAUSE
        if folded == 0:
            seen, looked = end, time.monotonic()
