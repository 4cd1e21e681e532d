"""What every long-running process shares: when to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

GRACE = 5.0
"""Seconds in which a process may finish what it holds after it was told to stop."""


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


def follow_parent() -> None:
    """End with the parent, however it ends: its end of our standard input closes then."""
    threading.Thread(target=_wait_for_parent, name="lifeline", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
