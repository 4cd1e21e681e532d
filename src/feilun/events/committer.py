"""Group commit: concurrent requests of one worker share durable transactions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from feilun.errors import InputError, Unavailable
from feilun.ports.event_log import Appended, EventLog
from feilun.records.record import Record
from feilun.records.rows import Rows

QUEUE_RECORDS = 50_000
"""The most records that may wait; beyond it requests are refused rather than made to wait."""
GROUP_RECORDS = 5_000
"""About how many records share a transaction: its time is what a request waits."""
GATHER_SECONDS = 0.01
"""How long a transaction waits at most while more and more come."""
GATHER_TURNS = 2
"""So many turns of the event loop take what has arrived from its socket to here."""
ANSWERS_A_TURN = 64
"""So many hear of their records in one turn of the event loop, for others wait for its end."""

T = TypeVar("T")


class _Request(NamedTuple):
    """Records of one caller, who may have given up meanwhile: then nobody hears the answer."""

    records: Sequence[Record]
    answer: asyncio.Future[Sequence[Appended]]

    def succeed(self, answers: Sequence[Appended]) -> None:
        if not self.answer.done():
            self.answer.set_result(answers)

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Committer:
    """Appends the records of concurrent requests, one transaction at a time, in a thread.

    While one transaction runs the next requests gather, and a transaction waits for those that are
    on their way, as long as each turn of the loop brings some: it costs nearly as much for one
    record as for fifty, and its thread and the loop's would get into each other's way. Alone a
    request waits for nobody. Belongs to one event loop.

    Parameters
    ----------
    log : EventLog
        Where records go.
    queue_records : int
        How many records may wait.
    """

    def __init__(self, log: EventLog, *, queue_records: int = QUEUE_RECORDS) -> None:
        self._log = log
        self._limit = queue_records
        self._waiting: deque[_Request] = deque()
        self._count = 0
        self._gathered = 0
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event-log-writer")
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    async def commit(self, records: Sequence[Record]) -> Sequence[Appended]:
        """Append records; return when they are durable. All of them share one transaction.

        Raises
        ------
        Unavailable
            If too many records wait already, or the committer is closed; nothing was stored.
        StoreFull
            If the log has no space; nothing was stored.
        """
        if not records:
            return []
        self._admit(len(records))
        request = _Request(records, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._gathered += len(records)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            return await request.answer
        finally:
            self._count -= len(records)

    async def keep_bad(
        self, source: str, received: int, items: Sequence[tuple[str, bytes]]
    ) -> list[int]:
        """Keep unusable items, each a reason and bytes; return their numbers once durable."""
        if not items:
            return []
        self._admit(len(items))
        try:
            return await self._in_writer(lambda: self._log.keep_bad_many(source, received, items))
        finally:
            self._count -= len(items)

    async def close(self) -> None:
        """Refuse what comes from now on, and finish what waits."""
        self._closed = True
        while self._running is not None:
            await asyncio.shield(self._running)
        await asyncio.to_thread(self._writer.shutdown)

    def _admit(self, count: int) -> None:
        if self._closed:
            raise Unavailable("The collector is closing.", "Try again.")
        if self._count + count > self._limit:
            raise Unavailable(
                f"{self._count} records wait to be stored; no more are taken.",
                "Try again a little later.",
            )
        self._count += count

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._commit_group(self._next_group())
        finally:
            self._running = None

    async def _gather(self) -> None:
        """Wait for whatever is on its way, as long as the turns of the loop bring more."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_SECONDS
        waited, gathered = 0, self._gathered
        while waited < GATHER_TURNS and gathered < GROUP_RECORDS and loop.time() < until:
            await asyncio.sleep(0)
            waited = waited + 1 if self._gathered == gathered else 0
            gathered = self._gathered

    def _next_group(self) -> list[_Request]:
        group: list[_Request] = []
        size = 0
        while self._waiting and size < GROUP_RECORDS:
            group.append(self._waiting.popleft())
            size += len(group[-1].records)
        self._gathered -= size
        return group

    async def _commit_group(self, group: list[_Request]) -> None:
        try:
            records = Rows.joined([request.records for request in group])
            answers = await self._in_writer(lambda: self._log.append(records))
        except InputError as error:
            if len(group) == 1:
                group[0].fail(error)
            else:  # nothing was stored; the others must not pay for the one that is wrong
                for request in group:
                    await self._commit_group([request])
        except Exception as error:  # whatever it is, each request must hear of it
            for request in group:
                request.fail(error)
        else:
            at = 0
            for number, request in enumerate(group, 1):
                request.succeed(answers[at : at + len(request.records)])
                at += len(request.records)
                if number % ANSWERS_A_TURN == 0:
                    await asyncio.sleep(0)

    async def _in_writer(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)
