"""The archiver's process: writes what the log has into the lake, until it is told to stop.

A process of its own, behind the others: it takes seconds of processor and hundreds of megabytes
now and then, which the engine's next commit must not wait for.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock
from feilun.app.process import Stop
from feilun.clock import HOUR, Clock, SystemClock
from feilun.errors import FeilunError
from feilun.features.archive import Archiver, Waiting

if TYPE_CHECKING:
    from feilun.ports.event_log import EventLog
    from feilun.ports.lake import Lake

PAUSE = 1.0
"""Seconds between two looks at the log."""
FAILED_PAUSE = 60.0
"""Seconds before it tries again after something failed."""
UPKEEP = HOUR
"""How often the lake is tidied, µs."""
UPKEEP_APPENDS = 50
"""After so many appends it is tidied sooner: a long backlog makes many snapshots."""
NICENESS = 10

logger = logging.getLogger("feilun.archiver")


def run(config: Config, lock: ProcessLock, stop: Stop) -> None:
    """Archive until told to stop. What fails is logged and tried again."""
    os.nice(NICENESS)
    clock = SystemClock()
    with closing(compose.event_log(config)) as log:
        lock.ready()
        logger.info("the archiver is ready")
        # Iceberg takes seconds to import and much memory: not before there is something to do.
        waiting = Waiting(log, clock)
        while not stop and not waiting.due(0):
            _pause(stop, PAUSE)
        while not stop:
            try:
                with closing(compose.lake(config)) as lake:
                    _follow(log, lake, clock, stop)
            except FeilunError as error:
                logger.error("cannot archive now: %s", error)
                _pause(stop, FAILED_PAUSE)


def _follow(log: EventLog, lake: Lake, clock: Clock, stop: Stop) -> None:
    archiver = Archiver(log, lake, clock)
    tidied, appends = clock.now(), 0
    while not stop:
        taken = archiver.run_once()
        if taken:
            appends += 1
            logger.info("archived %d records, up to offset %d", taken, archiver.position)
        if clock.now() - tidied >= UPKEEP or appends >= UPKEEP_APPENDS:
            done = lake.maintain(clock.now())
            logger.info("tidied the lake: %s", done)
            tidied, appends = clock.now(), 0
        if not taken:
            _pause(stop, PAUSE)


def _pause(stop: Stop, seconds: float) -> None:
    """Wait, but not past the moment in which we are told to stop."""
    end = time.monotonic() + seconds
    while not stop and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))
