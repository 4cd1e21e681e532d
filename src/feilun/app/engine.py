"""The engine's process: folds what the log has and the store has not, until it is told to stop."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from feilun.app.process import Stop
from feilun.errors import Unavailable
from feilun.ports.event_log import EventLog

SHORTEST_PAUSE = 0.001
LONGEST_PAUSE = 0.02
LOOK_AGAIN = 1.0
"""Seconds without a new record after which it looks what else there is: what was released meanwhile
may read what is not folded yet."""
FULL_PAUSE = 1.0
"""Seconds before it tries again where the disk is full."""

logger = logging.getLogger("feilun.engine")


class Folder(Protocol):
    """What the loop needs of `feilun.features.engine.Engine`."""

    def run_once(self, limit: int = ...) -> int:
        """Fold up to ``limit`` records; return how many."""
        ...


def run(engine: Folder, log: EventLog, stop: Stop) -> None:
    """Fold until told to stop. Looks for new records every 1 ms, less often while none come."""
    pause = SHORTEST_PAUSE
    seen, looked = -1, 0.0
    while not stop:
        end = log.end()
        if end == seen and time.monotonic() - looked < LOOK_AGAIN:
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_PAUSE)
            continue
        try:
            folded = engine.run_once()
        except Unavailable as error:
            logger.error("cannot fold now: %s", error)
            time.sleep(FULL_PAUSE)
            continue
        if end != seen:
            pause = SHORTEST_PAUSE
        if folded == 0:
            seen, looked = end, time.monotonic()
