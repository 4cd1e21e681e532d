"""The event log: everything that happened, in the order in which it was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from feilun.records.record import Record


class Appended(NamedTuple):
    """What became of one record.

    ``offset`` is its place in the log (of the first copy, for a duplicate); -1 for a conflict.
    """

    status: Literal["accepted", "late", "duplicate", "conflict"]
    offset: int


class BadEvent(NamedTuple):
    """Something that could not become a record: its bytes and the reason."""

    number: int
    received: int
    source: str
    reason: str
    raw: bytes


class EventLog(Protocol):
    """An append-only log that takes each (source, id) once within its window of days."""

    def append(self, records: Sequence[Record]) -> list[Appended]:
        """Append records with their ids in one durable transaction; one answer per record.

        Called by the collector and the gateway for each group of requests. Idempotent: a record
        sent again is a ``duplicate``; the same id with another digest is a ``conflict`` and is
        kept as a bad event. A record whose day of ids has been closed is ``late``: it is stored
        with the flag, and a second copy of it is a duplicate too as long as its bytes are kept.
        ``feilun.records.identity`` says which day is whose, and when it closes. Days close by the
        records' own ``received``, never by the machine's clock; those of imported records never
        do.

        Raises
        ------
        InputError
            If an id has not 1 to 64 characters; nothing was stored.
        StoreFull
            If nothing was stored for want of space; reads go on.
        """
        ...

    def read(self, start: int, limit: int = 10_000) -> list[tuple[int, Record]]:
        """Return up to ``limit`` records from offset ``start`` on, with their offsets, in order.

        Called by the engine, the flywheel and training, all the time. Returns an empty list at
        the end, and only there: erased records are left out.

        Raises
        ------
        CorruptData
            If the record at ``start`` fails its check; the message names the offsets that cannot
            be read. Those before it are returned without an error, those behind it can be read.
        """
        ...

    def end(self) -> int:
        """Return the offset that the next record will get. Cheap: polled."""
        ...

    def keep_bad(self, source: str, reason: str, raw: bytes, received: int) -> int:
        """Keep something unusable with its reason; return its number. Durable."""
        ...

    def keep_bad_many(
        self, source: str, received: int, items: Sequence[tuple[str, bytes]]
    ) -> list[int]:
        """Keep unusable items, each a reason and its bytes, in one durable transaction.

        Called by the collector for each body that holds some. Returns their numbers.
        """
        ...

    def bad(self, start: int = 0, limit: int = 1_000) -> list[BadEvent]:
        """Return up to ``limit`` bad events from number ``start`` on, oldest first.

        Called by people. Of what was kept the oldest may have given way to the newest.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
