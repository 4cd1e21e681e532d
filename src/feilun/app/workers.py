"""Several processes that do the same, kept running: a gateway's workers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from feilun.app.process import GRACE, Restarts, Stop

PAUSE = 0.1
"""Seconds between looks at whether to stop, or to start one again; an end is seen at once."""

logger = logging.getLogger("feilun.app")


def keep_running(count: int, target: Callable[..., None], *args: Any) -> None:
    """Run ``count`` processes until SIGTERM or SIGINT; start again whatever ends before.

    One that cannot start is tried again, later each time; the others go on.

    Parameters
    ----------
    count : int
        How many.
    target : callable
        What each does; it is imported by its name. It ends soon after SIGTERM.
    *args
        Pickled for each.
    """
    stop = Stop()
    workers = [_Worker(number, target, args) for number in range(1, count + 1)]
    try:
        while not stop:
            for worker in workers:
                worker.look_after()
            wait([each.process.sentinel for each in workers if each.process], timeout=PAUSE)
    finally:
        _end(workers)


class _Worker:
    """One process of several and its luck so far."""

    def __init__(self, number: int, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.process: SpawnProcess | None = None
        self._number = number
        self._work = (target, args)
        self._restarts = Restarts()

    def look_after(self) -> None:
        """Start it if it is due; note if it has ended."""
        if self.process is None:
            if time.monotonic() >= self._restarts.due:
                self._start()
        elif self.process.exitcode is not None:
            seconds = self._restarts.plan()
            logger.error(
                "worker %d (process %d) ended with code %d; another starts in %.1f s",
                self._number,
                self.process.pid,
                self.process.exitcode,
                seconds,
            )
            self.process = None

    def _start(self) -> None:
        # Spawned: an LMDB environment and a library's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_work, args=self._work)
        self.process.start()
        self._restarts.begin()


def _work(target: Callable[..., None], args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    target(*args)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a worker that outlived it would keep the port
        os._exit(1)


def _end(workers: list[_Worker]) -> None:
    """Tell all to stop, give them ``GRACE`` seconds together, then end what is left."""
    running = [each.process for each in workers if each.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in running:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()
