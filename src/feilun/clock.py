"""Time, injected: nothing in Feilun asks the operating system for it in any other place.

A time is int64 microseconds since 1970-01-01 UTC. Intervals are half-open.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> int:
        """Return the time in microseconds UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return the time in microseconds UTC."""
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands still until it is told: for tests and for replays.

    Examples
    --------
    >>> clock = ManualClock(1_000)
    >>> clock.advance(500)
    >>> clock.now()
    1500
    """

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        """Return the time it was last set to."""
        return self._now

    def set(self, now: int) -> None:
        """Stand at ``now``, in microseconds UTC."""
        self._now = now

    def advance(self, microseconds: int) -> None:
        """Move on by ``microseconds``."""
        self._now += microseconds


def to_iso(time_us: int) -> str:
    """Write a time as ISO 8601 in UTC.

    Examples
    --------
    >>> to_iso(0)
    '1970-01-01T00:00:00+00:00'
    """
    seconds, micros = divmod(time_us, SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros).isoformat()
