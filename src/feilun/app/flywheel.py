"""The flywheel's process: takes the turns that the log makes due, and audits what is served."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock
from feilun.app.process import Stop
from feilun.errors import FeilunError

if TYPE_CHECKING:
    from feilun.flywheel.auditor import Auditor
    from feilun.flywheel.controller import Controller
    from feilun.flywheel.workshop import Workshop

PAUSE = 0.02
"""Seconds between two looks at the log: turns take seconds, and requests need the processor."""
LOOK_AROUND = 0.5
"""Seconds after which it looks for turns opened by hand, though the log stands still."""
FAILED_PAUSE = 1.0
"""Seconds before it goes on after something failed."""

logger = logging.getLogger("feilun.flywheel")


def run(config: Config, lock: ProcessLock, stop: Stop) -> None:
    """Take turns until told to stop. A turn under way is resumed by the next process."""
    # OpenMP threads that spin while they wait make training six times slower on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from feilun.flywheel.controller import Controller

    compose.check_database(config)
    with (
        closing(compose.event_log(config)) as log,
        closing(compose.turn_store(config)) as turns,
        closing(compose.releases(config)) as releases,
        closing(compose.skew_store(config)) as skew,
    ):
        # The lock lets one flywheel run, so the next one may go on with this one's turns at once.
        workshop = compose.workshop(config, log, turns, releases, owner="flywheel", by="flywheel")
        with closing(workshop.encoders):
            lock.ready()
            logger.info("the flywheel is ready")
            _follow(workshop, Controller(workshop), compose.auditor(workshop, skew), stop)


def _follow(workshop: Workshop, controller: Controller, auditor: Auditor, stop: Stop) -> None:
    seen, looked, warmed = -1, 0.0, False
    while not stop:
        time.sleep(PAUSE)
        try:
            auditor.step()
        except FeilunError as error:
            logger.error("cannot audit now: %s", error)
            time.sleep(FAILED_PAUSE)
        end = workshop.log.end()
        if end == seen and time.monotonic() - looked < LOOK_AROUND:
            continue
        seen, looked = end, time.monotonic()
        try:
            if not warmed and _is_turn_near(workshop, end):
                warmed = True
                threading.Thread(target=_warm, args=(workshop,), name="warm", daemon=True).start()
            controller.run_once()
        except FeilunError as error:
            logger.error("cannot take turns now: %s", error)
            time.sleep(FAILED_PAUSE)


def _is_turn_near(workshop: Workshop, end: int) -> bool:
    """Return whether the log has grown by half of what some trigger waits for, or more."""
    for model, loop in workshop.project.flywheels.items():
        cut = max((turn.cut for turn in workshop.turns.turns(model)), default=0)
        if any(2 * (end - cut) >= trigger.count for trigger in loop.triggers):
            return True
    return False


def _warm(workshop: Workshop) -> None:
    """Import what a turn needs (MLflow takes seconds) before the turn has to wait for it."""
    started = time.monotonic()
    try:
        for model in workshop.project.flywheels:
            workshop.registry.versions(model)
    except FeilunError as error:
        logger.warning("the registry cannot be used now: %s", error)
    logger.info("process %d is warm after %.1f s", os.getpid(), time.monotonic() - started)
