"""How often a team may call: the generic cell rate algorithm, one number for each team.

The number is the time at which everything that a team was let do would be done if it were done
evenly. A rested team may send what its quota is for one second at once, so ``t`` seconds let in at
most ``quota × (t + 1)``. Source: ITU-T I.371, the generic cell rate algorithm.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

SECOND_NS = 1_000_000_000
LOCK_SECONDS = 0.05
"""How long another worker's turn is waited for; it takes microseconds, if the worker runs."""
PAUSE_SECONDS = 0.0001
_SLOT = struct.Struct("<q")

_log = logging.getLogger(__name__)


class Quota(Protocol):
    """Counts what teams do against what they may do."""

    def take(self, team: int, rate: float) -> float:
        """Let ``team`` do one thing, at ``rate`` a second.

        Returns 0 if it may, else in how many seconds it may; then nothing is counted.
        Called by the event loop for every request of a team.
        """
        ...

    def problem(self) -> str:
        """Return in which way the quota is less exact than it should be; empty if it is exact."""
        ...


class Step(NamedTuple):
    """The number of a team from now on, and how long (ns) it has to wait; 0 if it may."""

    done_at: int
    wait: int


def step(done_at: int, now: int, rate: float) -> Step:
    """Decide about one request. Times are in ns of one clock.

    Nobody can owe more than a full burst: a number beyond that was made by another quota, or by
    damage, and counts as a full burst.

    Examples
    --------
    >>> first = step(0, 1_000, rate=1)
    >>> first
    Step(done_at=1000001000, wait=0)
    >>> step(first.done_at, 1_000, rate=1)
    Step(done_at=1000001000, wait=1000000000)
    """
    interval = int(SECOND_NS / rate)
    burst = max(SECOND_NS, interval)
    owed = min(max(done_at - now, 0), burst)
    if owed + interval > burst:
        return Step(now + owed, owed + interval - burst)
    return Step(now + owed + interval, 0)


class OwnQuota:
    """The quota of a gateway with one worker: exact.

    Parameters
    ----------
    now : callable
        A monotonic clock, ns.
    """

    def __init__(self, now: Callable[[], int] = time.monotonic_ns) -> None:
        self._now = now
        self._done_at: dict[int, int] = {}

    def take(self, team: int, rate: float) -> float:
        """Let ``team`` do one thing; see `Quota.take`."""
        done = step(self._done_at.get(team, 0), self._now(), rate)
        self._done_at[team] = done.done_at
        return done.wait / SECOND_NS

    def problem(self) -> str:
        """Return nothing: it is exact."""
        return ""


def make_quota_file(path: Path) -> None:
    """Make the file of a `SharedQuota`, empty. Called once, before the first worker starts.

    Where that fails the workers find no file, share the quota out, and say so.
    """
    try:
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        _log.error("The file of quotas cannot be made: %s", error)


class SharedQuota:
    """The quota of several workers: exact, by a file with 8 bytes a team.

    A worker that cannot use the file lets each team have its share, ``quota / workers``. So if no
    worker can use it, together they let in no more than the quota; if some can, less than twice.

    Parameters
    ----------
    path : Path
        What `make_quota_file` made; on a local disk, for its locks.
    workers : int
        How many share it.
    now : callable
        A monotonic clock that all processes of the machine have in common, ns.
    """

    def __init__(
        self, path: Path, workers: int, now: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._workers = workers
        self._now = now
        self._share = OwnQuota(now)
        self._problem = ""
        self._path = path
        self._fd = -1

    def take(self, team: int, rate: float) -> float:
        """Let ``team`` do one thing; see `Quota.take`."""
        try:
            wait = self._take_slot(team * _SLOT.size, rate)
        except OSError as error:
            self._fail(error)
            return self._share.take(team, rate / self._workers)
        self._problem = ""
        return wait

    def problem(self) -> str:
        """Return why teams have their share of the quota alone, if they do."""
        return self._problem

    def _take_slot(self, at: int, rate: float) -> float:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._lock(at)
        try:
            # Not mapped into memory: a file that is cut short would kill the process (SIGBUS).
            raw = os.pread(self._fd, _SLOT.size, at)
            (done_at,) = _SLOT.unpack(raw) if len(raw) == _SLOT.size else (0,)
            done = step(done_at, self._now(), rate)
            if done.done_at != done_at:
                os.pwrite(self._fd, _SLOT.pack(done.done_at), at)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, _SLOT.size, at)
        return done.wait / SECOND_NS

    def _lock(self, at: int) -> None:
        # A worker that was stopped within its turn must not hold up the others' event loops.
        give_up = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SLOT.size, at)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(PAUSE_SECONDS)
            else:
                return

    def _fail(self, error: OSError) -> None:
        if not self._problem:
            _log.error("The file of quotas cannot be used: %s", error)
        self._problem = (
            f"The file of quotas cannot be used ({error.strerror}): in this worker each team has "
            f"1/{self._workers} of its quota."
        )
