"""A circuit breaker: spares callers a wait that would be in vain, and what fails a rush of calls.

Source: M. Nygard, *Release It!*, on the pattern of that name.
"""

from __future__ import annotations

from collections.abc import Callable

FAILURES = 5
"""So many failures in a row that were waited for open it."""
WAITED_SECONDS = 0.1
"""A failure that came sooner costs nobody anything, and may be the request's own."""
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 30.0
"""How long it is open: the first time, and at most; each failed trial doubles it."""


class Breaker:
    """Says whether a call is worth a try. Used by one event loop.

    Closed, it lets all calls in. Open, none; after a rest one at a time, as a trial, until one
    succeeds.

    Parameters
    ----------
    timer : callable
        Seconds that only grow.

    Examples
    --------
    >>> now = 0.0
    >>> breaker = Breaker(lambda: now)
    >>> for _ in range(FAILURES):
    ...     breaker.begin()
    ...     breaker.failed(0.9)
    >>> breaker.rest()
    1.0
    >>> now = 1.0
    >>> breaker.rest()  # a trial may begin; the others wait for its end
    0.0
    >>> breaker.begin()
    >>> breaker.rest()
    1.0
    >>> breaker.succeeded()
    >>> breaker.rest()
    0.0
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._failures = 0
        self._pause = FIRST_REST_SECONDS
        self._until = 0.0
        self._trial = False

    def rest(self) -> float:
        """Return for how many seconds more no call is worth a try; 0 if one is."""
        if self._failures < FAILURES:
            return 0.0
        return max(0.0, self._until - self._timer())

    def begin(self) -> None:
        """Note that a call begins."""
        if self._failures >= FAILURES:
            self._trial = True
            self._until = self._timer() + self._pause

    def succeeded(self) -> None:
        """Note that a call succeeded: all are let in."""
        self._failures = 0
        self._pause = FIRST_REST_SECONDS
        self._trial = False

    def failed(self, seconds: float) -> None:
        """Note that a call failed after so many seconds."""
        if seconds < WAITED_SECONDS:
            return
        if self._failures < FAILURES:
            self._failures += 1
        elif self._trial:
            self._trial = False
            self._pause = min(2 * self._pause, LONGEST_REST_SECONDS)
        else:
            return  # it began before this opened
        self._until = self._timer() + self._pause
