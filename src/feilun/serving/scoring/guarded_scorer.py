"""Calls a scorer so that whatever it does, the gateway goes on answering.

A scorer that is quick runs in the event loop, which costs nothing. One that has been slow runs in
threads with a deadline, a few at a time; once all of those are stuck, further calls fail at once.
When it has been quick there for long enough it may come back: what was slow may have been the
machine. Each time it must be quick for twice as long. One that fails again and again after a wait
is left alone for a while: see `breaker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from feilun.errors import ModelError
from feilun.ports.scorer import Scorer
from feilun.serving.scoring.breaker import FAILURES, Breaker

SLOW_SECONDS = 0.005
SLOW_CALLS = 3
"""So many calls in a row longer than that move the scorer out of the event loop."""
STALLED_SECONDS = 0.05
"""One call longer than this does the same at once. A busy machine alone rarely takes as long."""
QUICK_CALLS = 100
"""So many calls in a row that are not slow bring it back the first time."""
DEADLINE_SECONDS = 1.0
"""How long a request waits for a slow scorer."""
SLOTS = 4
"""How many calls of a slow scorer may be in progress."""
WARM_ROWS = 128
"""Rows of the dummy matrix that a new model must score before it serves."""

Matrix = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


class GuardedScorer:
    """A scorer whose failures are all ModelErrors, within a deadline.

    Parameters
    ----------
    scorer : Scorer
        What is called.
    columns : int
        Of the matrices that it takes.
    timer : callable
        Seconds that only grow.
    waits : bool
        Whether it waits for another process: then it never runs in the event loop.
    """

    def __init__(
        self,
        scorer: Scorer,
        columns: int,
        timer: Callable[[], float] = time.perf_counter,
        *,
        waits: bool = False,
    ) -> None:
        self._scorer = scorer
        self._columns = columns
        self._timer = timer
        self._waits = self._aside = waits
        self._slow_calls = 0
        self._quick_calls = 0
        self._quick_enough = QUICK_CALLS
        self._slots = asyncio.Semaphore(SLOTS)
        self._moved = 0.0  # when a call of the slow scorer last began or ended
        self._breaker = Breaker(timer)

    def warm(self, deadline: float) -> None:
        """Score a dummy matrix, outside the event loop, so that the first request finds it warm.

        Raises
        ------
        ModelError
            If the model fails on it or takes longer than ``deadline`` seconds.
        """
        matrix = np.zeros((WARM_ROWS, self._columns), np.float32)
        try:
            self._start(matrix).result(deadline)
            _, seconds = self._start(matrix).result(deadline)
        except TimeoutError as error:
            raise ModelError(f"The model took more than {deadline:.0f} s to warm up.") from error
        self._aside = self._waits or seconds > SLOW_SECONDS

    async def score(self, matrix: Matrix, *, aside: bool = False) -> Scores:
        """Return one finite score a row.

        Parameters
        ----------
        matrix : float32 array
            What to score.
        aside : bool
            Score beside the event loop even if the model is quick: nobody waits for it.

        Raises
        ------
        ModelError
            If the model raises, is too slow, or returns anything else.
        """
        if not (self._aside or aside):
            started = self._timer()
            try:
                return self._call(matrix)
            finally:
                self._note(self._timer() - started)
        if rest := self._breaker.rest():
            raise ModelError(
                f"The model failed {FAILURES} times in a row; it is asked again in {rest:.1f} s."
            )
        started = self._timer()
        self._breaker.begin()
        try:
            scores = await self._score_in_time(matrix)
        except ModelError:
            self._breaker.failed(self._timer() - started)
            raise
        self._breaker.succeeded()
        return scores

    async def _score_in_time(self, matrix: Matrix) -> Scores:
        now = time.monotonic()
        if self._slots.locked() and now - self._moved > DEADLINE_SECONDS:
            raise ModelError(f"All {SLOTS} calls of the model in progress are stuck.")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await self._score_aside(matrix)
        except TimeoutError as error:
            raise ModelError(f"The model did not answer in {DEADLINE_SECONDS:.0f} s.") from error

    def _note(self, seconds: float) -> None:
        """Remember how quick it was: one slow call may be the machine's, several are its own."""
        if seconds <= SLOW_SECONDS:
            self._slow_calls = 0
            self._quick_calls += 1
            if self._aside and not self._waits and self._quick_calls >= self._quick_enough:
                self._aside = False
                self._quick_enough *= 2
            return
        self._quick_calls = 0
        self._slow_calls += 1
        if seconds > STALLED_SECONDS or self._slow_calls >= SLOW_CALLS:
            self._aside = True

    async def _score_aside(self, matrix: Matrix) -> Scores:
        await self._slots.acquire()
        self._moved = time.monotonic()
        loop = asyncio.get_running_loop()
        running = self._start(matrix)
        # The slot is free when the call has ended, not when its request has given up.
        running.add_done_callback(lambda _: self._free_slot(loop))
        scores, seconds = await asyncio.wrap_future(running)
        self._moved = time.monotonic()
        self._note(seconds)
        return scores

    def _free_slot(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the gateway stopped before the model answered
            loop.call_soon_threadsafe(self._slots.release)

    def _start(self, matrix: Matrix) -> Future[tuple[Scores, float]]:
        """Call the model in a daemon thread: a call that never ends does not hold up shutdown."""
        running: Future[tuple[Scores, float]] = Future()
        running.set_running_or_notify_cancel()

        def call() -> None:
            started = self._timer()
            try:
                scores = self._call(matrix)
            except ModelError as error:
                running.set_exception(error)
            else:
                running.set_result((scores, self._timer() - started))

        threading.Thread(target=call, name="scorer", daemon=True).start()
        return running

    def _call(self, matrix: Matrix) -> Scores:
        try:
            scores = self._scorer.score(matrix)
        except ModelError:
            raise
        except Exception as error:  # whatever a model raises, the gateway answers
            raise ModelError(f"The model raised {type(error).__name__}: {error}") from error
        if not isinstance(scores, np.ndarray) or scores.shape != (len(matrix),):
            raise ModelError(f"The model did not give one score for each of {len(matrix)} rows.")
        if not (math.isfinite(scores[0]) if len(scores) == 1 else np.isfinite(scores).all()):
            raise ModelError("The model gave a score that is not a finite number.")
        return scores
