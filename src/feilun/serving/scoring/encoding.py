"""Has texts encoded for the requests of one worker: together, within a deadline, each text once.

One call goes to the encoders at a time. What is asked for while it runs goes into the next, so that
the more requests there are, the more texts a call has. An encoder that fails or is too slow is left
alone for a moment: its texts have no vectors then, and nobody waits for them. That is no
`breaker`, which forgives failures that cost no wait and rests longer each time: an encoder is
called by one task alone, fails at once while its process is away, and is back as soon as that has
started again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from feilun.aggregation.frames import Float32
from feilun.errors import FeilunError
from feilun.features.encodings import Text
from feilun.ports.encoder import Encoders
from feilun.serving.metrics import Metrics
from feilun.serving.scoring.champion import stop

DEADLINE_SECONDS = 1.0
"""How long a request waits for vectors."""
PAUSE_SECONDS = 1.0
"""How long an encoder that failed is left alone."""
CALL_TEXTS = 64
"""The most texts of one call."""
FIRST_TEXTS = 8
"""The most of the first call, before it is known how quick an encoder is."""
CALL_SECONDS = 0.4
"""How long a call should take, at most: whoever comes may wait for the one before, too.

Calls of a slow encoder have fewer texts, but not one where a few together take hardly longer.
"""
WAITING_TEXTS = 4_096
"""The most texts that may wait; more get no vectors."""
CACHE_BYTES = 32 << 20
"""The most bytes of texts and vectors that are remembered."""

_log = logging.getLogger(__name__)


class Encoding:
    """Has texts encoded. Used by the event loop alone.

    Parameters
    ----------
    encoders : Encoders
        Called in a thread.
    metrics : Metrics
        Counts the texts.
    now : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        encoders: Encoders,
        metrics: Metrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoders = encoders
        self._metrics = metrics
        self._now = now
        self._cache = _Cache(CACHE_BYTES)
        self._waiting: OrderedDict[Text, asyncio.Future[Float32 | None]] = OrderedDict()
        self._until: dict[Text, float] = {}  # when the last request that waits for it gives up
        self._failed: dict[str, tuple[float, str]] = {}  # until when it is left alone, and why
        self._sizes: dict[str, int] = {}
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoding")

    async def encode(self, texts: Sequence[Text]) -> dict[Text, Float32]:
        """Return the vectors of texts; those that there are none of now are not there."""
        found: dict[Text, Float32] = {}
        asked: dict[Text, asyncio.Future[Float32 | None]] = {}
        for text in texts:
            vector = self._cache.get(text)
            if vector is not None:
                found[text] = vector
            elif (future := self._ask(text)) is not None:
                asked[text] = future
        self._count(texts, "remembered", len(found))
        if asked:
            await asyncio.wait(asked.values(), timeout=DEADLINE_SECONDS)
        for text, future in asked.items():
            if future.done() and (vector := future.result()) is not None:
                found[text] = vector
        self._count(texts, "missing", len(texts) - len(found))
        return found

    def problem(self) -> str:
        """Return which encoders failed when they were asked last, and why; nothing if none did."""
        found = self._failed.items()
        return " ".join(f"The encoder {digest[:12]} failed: {why}" for digest, (_, why) in found)

    async def stop(self) -> None:
        """Stop, when the call that is in progress has ended. Whoever waits gets nothing."""
        if self._running is not None:
            await stop(self._running)
        self._thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._encoders.close)

    def _ask(self, text: Text) -> asyncio.Future[Float32 | None] | None:
        """Return the vector that is to come; None if nobody is asked for it now."""
        future = self._waiting.get(text)
        if future is not None:
            self._until[text] = self._now() + DEADLINE_SECONDS
            return future
        left_alone, _ = self._failed.get(text.encoder, (0.0, ""))
        if left_alone > self._now() or len(self._waiting) >= WAITING_TEXTS:
            return None
        loop = asyncio.get_running_loop()
        future = self._waiting[text] = loop.create_future()
        self._until[text] = self._now() + DEADLINE_SECONDS
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        """Ask for what waits, one call after the other, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._let_go_of_late():
            encoder = next(iter(self._waiting)).encoder
            size = self._sizes.get(encoder, FIRST_TEXTS)
            batch = [text for text in self._waiting if text.encoder == encoder][:size]
            texts = [each.text for each in batch]
            began = self._now()
            try:
                rows = await loop.run_in_executor(
                    self._thread, self._encoders.encode, encoder, texts
                )
            except Exception as error:  # whatever an encoder does, requests are answered
                defect = not isinstance(error, FeilunError)
                _log.warning("The encoder %.12s failed: %s", encoder, error, exc_info=defect)
                self._metrics.add("feilun_encoder_failures_total", encoder=encoder[:12])
                self._failed[encoder] = (self._now() + PAUSE_SECONDS, str(error))
                self._sizes[encoder] = 1
                batch = [text for text in self._waiting if text.encoder == encoder]
                for text in batch:
                    self._settle(text, None)
                continue
            self._failed.pop(encoder, None)
            self._sizes[encoder] = _next_size(size, len(batch), self._now() - began)
            self._count(batch, "encoded", len(batch))
            for text, row in zip(batch, rows, strict=True):
                self._cache.put(text, row)
                self._settle(text, row)

    def _let_go_of_late(self) -> bool:
        """Drop texts that nobody waits for any more, and return whether others wait.

        An encoder that has more to do than it can would spend its time on them, and be too late for
        all.
        """
        now = self._now()
        for text in [text for text, until in self._until.items() if until <= now]:
            self._settle(text, None)
        return bool(self._waiting)

    def _settle(self, text: Text, vector: Float32 | None) -> None:
        self._until.pop(text)
        self._waiting.pop(text).set_result(vector)

    def _count(self, texts: Sequence[Text], result: str, count: int) -> None:
        if count:
            name = "feilun_encoder_texts_total"
            self._metrics.add(name, count, encoder=texts[0].encoder[:12], result=result)


def _next_size(size: int, texts: int, seconds: float) -> int:
    """Return how many texts the next call may have, after one that had so many and took so long."""
    if seconds > CALL_SECONDS:
        return max(1, texts // 2)
    quick = texts == size and seconds < CALL_SECONDS / 2
    return min(2 * size, CALL_TEXTS) if quick else size


class _Cache:
    """The vectors of the texts that were asked for last, within so many bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._vectors: OrderedDict[Text, Float32] = OrderedDict()
        self._bytes = 0

    def get(self, text: Text) -> Float32 | None:
        vector = self._vectors.get(text)
        if vector is not None:
            self._vectors.move_to_end(text)
        return vector

    def put(self, text: Text, vector: Float32) -> None:
        if text in self._vectors:
            return
        self._vectors[text] = vector.copy()  # a row alone, not the matrix that it is of
        self._bytes += _size(text, vector)
        while self._bytes > self._capacity:
            self._bytes -= _size(*self._vectors.popitem(last=False))


def _size(text: Text, vector: Float32) -> int:
    return 4 * len(text.text) + vector.nbytes + _OVERHEAD


_OVERHEAD = 500
"""What Python takes for an entry, roughly, in bytes."""
