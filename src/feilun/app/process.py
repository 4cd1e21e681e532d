"""What every long-running process shares: when to stop, and when to start again what ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

GRACE = 5.0
"""Seconds in which a process may finish what it holds after it was told to stop."""
FIRST_DELAY = 0.1
LAST_DELAY = 5.0
SETTLED = 5.0
"""Seconds after which a process that ends begins again at ``FIRST_DELAY``."""


class Stop:
    """True once SIGTERM or SIGINT has come. A plain flag: a handler must not take locks."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def __bool__(self) -> bool:
        """Return whether to stop."""
        return self._asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


class Restarts:
    """When a process that ended may start again: later each time, unless it had settled."""

    def __init__(self) -> None:
        self.due = 0.0
        """The moment, in seconds of the monotonic clock."""
        self._began = 0.0
        self._wait = 0.0

    def begin(self) -> None:
        """Note that it starts now."""
        self._began = time.monotonic()

    def plan(self) -> float:
        """Note that it has ended; return the seconds until it may start again."""
        now = time.monotonic()
        anew = now - self._began > SETTLED or not self._wait
        self._wait = FIRST_DELAY if anew else min(2 * self._wait, LAST_DELAY)
        self.due = now + self._wait
        return self._wait


def follow_parent() -> None:
    """End with the parent, however it ends: its end of our standard input closes then."""
    threading.Thread(target=_wait_for_parent, name="lifeline", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
