"""Shadows: a challenger scores what others answer, after the reply has gone.

Nobody waits for a shadow. What it cannot keep up with is dropped and counted; a shadow that is
slow, raises, or gives no number costs the requests nothing and is counted against its version.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from feilun.errors import FeilunError
from feilun.records.record import NOT_PERSONALISED, Prediction
from feilun.serving.answering.reading import Reading
from feilun.serving.log.predictions import PredictionLog
from feilun.serving.metrics import Metrics
from feilun.serving.scoring.champion import stop
from feilun.serving.scoring.guarded_scorer import Scores
from feilun.serving.scoring.lineup import Served

WAITING_ROWS = 100_000
"""The most rows that may wait to be scored; a request counts as one more than it has."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShadowCall:
    """One request for a shadow: what was answered, about whom, and how to read its own columns."""

    served: Served
    answered: Prediction
    digest: bytes
    subject: str
    read: Callable[[], Awaitable[Reading]]
    team: str

    @property
    def size(self) -> int:
        """What it takes of the room of those that wait."""
        return 1 + len(self.answered.items)


class Shadows:
    """The shadow calls of one worker, one after the other.

    Parameters
    ----------
    predictions : PredictionLog
        Keeps what they score.
    metrics : Metrics
        Counts them.
    """

    def __init__(self, predictions: PredictionLog, metrics: Metrics) -> None:
        self._predictions = predictions
        self._metrics = metrics
        self._waiting: deque[ShadowCall] = deque()
        self._rows = 0
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def offer(self, call: ShadowCall) -> None:
        """Take a call, or drop it if too many wait. Costs the request nothing."""
        if self._rows + call.size > WAITING_ROWS:
            self._count(call, "dropped")
            return
        self._rows += call.size
        self._waiting.append(call)
        self._news.set()

    def start(self) -> None:
        """Begin to work, in the event loop that runs now."""
        self._news = asyncio.Event()
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop working. What waits is dropped."""
        if self._running is not None:
            await stop(self._running)
        for call in self._waiting:
            self._count(call, "dropped")
        self._waiting.clear()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            while self._waiting:
                call = self._waiting.popleft()
                try:
                    await self._score(call)
                finally:
                    self._rows -= call.size
                await asyncio.sleep(0)  # requests first
            self._news.clear()

    async def _score(self, call: ShadowCall) -> None:
        version = call.served.release.version
        try:
            reading = await call.read()
            scores = await call.served.scorer.score(reading.matrix, aside=True)
        except Exception as error:  # whatever a shadow does, the next one has its turn
            defect = not isinstance(error, FeilunError)
            _log.warning("The shadow of version %d failed: %s", version, error, exc_info=defect)
            self._count(call, "failed")
            return
        try:
            scored = _scored(call, reading, scores)
            await self._predictions.keep_shadow(scored, call.digest, call.subject, call.team)
        except FeilunError as error:  # the log's fault, not the version's
            _log.warning("What the shadow of version %d scored is lost: %s", version, error)
            self._count(call, "lost")
        else:
            self._count(call, "kept")

    def _count(self, call: ShadowCall, result: str) -> None:
        self._metrics.add(
            "feilun_shadow_total",
            model=call.answered.model,
            version=str(call.served.release.version),
            result=result,
        )


def _scored(call: ShadowCall, reading: Reading, scores: Scores) -> Prediction:
    """Return what is logged: the request that was answered, as the shadow saw it."""
    return msgspec.structs.replace(
        call.answered,
        version=call.served.release.version,
        as_of=reading.as_of,
        folded_offset=reading.folded_offset,
        columns=reading.columns,
        vectors=reading.matrix.tobytes(),
        scores=scores.tobytes(),
        answer=[],
        degraded=[
            *([] if call.answered.personalised else [NOT_PERSONALISED]),
            *reading.flags,
        ],
        arm="shadow",
        propensity=0.0,
        rollout=call.served.release.sequence,
        encoders=dict(call.served.columns.encoders),
        exploration="",
        list_propensity=1.0,
        item_propensities=b"",
        reply=b"",
    )
