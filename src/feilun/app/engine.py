"""The engine's process: folds what the log has and the store has not, until it is told to stop."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from feilun.app.process import Stop
from feilun.errors import CorruptData, Unavailable
from feilun.ports.event_log import EventLog

SHORTEST_PAUSE = 0.001
LONGEST_PAUSE = 0.02
LOOK_AGAIN = 1.0
"""Seconds without a new record after which it looks what else there is: what was released meanwhile
may read what is not folded yet."""
STILL_PAUSE = 1.0
"""Seconds before it tries again where the disk is full, or what it must read is damaged."""

logger = logging.getLogger("feilun.engine")


class Folder(Protocol):
    """What the loop needs of `feilun.features.engine.Engine`."""

    def run_once(self, limit: int = ...) -> int:
        """Fold up to ``limit`` records; return how many."""
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
        try:
            folded = self._engine.run_once()
        except (Unavailable, CorruptData) as error:
            if self._trouble != (trouble := str(error)):  # it tries every second, maybe for days
                self._trouble = trouble
                logger.error("cannot fold now: %s", trouble)
            return None
        self._trouble = ""
        return folded


def run(folding: Folding, log: EventLog, stop: Stop) -> None:
    """Fold until told to stop. Looks for new records every 1 ms, less often while none come."""
    pause = SHORTEST_PAUSE
    seen, looked = -1, 0.0
    while not stop:
        end = log.end()
        if end == seen and time.monotonic() - looked < LOOK_AGAIN:
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
