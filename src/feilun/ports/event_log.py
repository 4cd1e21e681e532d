"""The event log: everything that happened, in the order in which it was accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, overload

import msgspec

from feilun.records.batch import RecordBatch
from feilun.records.erasure import Erasures
from feilun.records.record import Record


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What became of one record.

    ``offset`` is its place in the log (of the first copy, for a duplicate); -1 for a conflict, and
    for what is erased.
    """

    status: Literal["accepted", "late", "duplicate", "conflict", "erased"]
    offset: int


class Accepted(Sequence[Appended]):
    """Answers to records that were all accepted, at offsets one after another.

    No object is made for an answer before somebody asks for it.

    Examples
    --------
    >>> answers = Accepted(range(7, 10))
    >>> answers[1], len(answers[1:]), answers[:1] == [Appended("accepted", 7)]
    (Appended(status='accepted', offset=8), 2, True)
    """

    __slots__ = ("offsets",)
    __hash__ = None  # type: ignore[assignment]  # like a list

    def __init__(self, offsets: range) -> None:
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Appended: ...
    @overload
    def __getitem__(self, at: slice) -> Accepted: ...
    def __getitem__(self, at: int | slice) -> Appended | Accepted:
        if isinstance(at, slice):
            return Accepted(self.offsets[at])
        return Appended("accepted", self.offsets[at])

    def __iter__(self) -> Iterator[Appended]:
        return (Appended("accepted", offset) for offset in self.offsets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


class Named(NamedTuple):
    """The record that has a name: its place in the log, and the digest that it came with."""

    offset: int
    digest: bytes


class BadEvent(NamedTuple):
    """Something that could not become a record: its bytes and the reason."""

    number: int
    received: int
    source: str
    reason: str
    raw: bytes


class Covered(NamedTuple):
    """Records that an erasure covers: their offsets in order, and the newest effective time."""

    offsets: list[int]
    newest: int


class Count(NamedTuple):
    """How many records of one schema were stored, late ones among them; erased ones count too."""

    records: int
    late: int


class EventLog(Protocol):
    """An append-only log that takes each (source, id) once within its window of days."""

    def append(self, records: Sequence[Record]) -> Sequence[Appended]:
        """Append records with their ids in one durable transaction; one answer per record.

        Called by the collector and the gateway for each group of requests. Idempotent: a record
        sent again is a ``duplicate``; the same id with another digest is a ``conflict`` and is
        kept as a bad event. A record whose day of ids has been closed is ``late``: it is stored
        with the flag, and a second copy of it is a duplicate too as long as its bytes are kept.
        ``feilun.records.identity`` says which day is whose, and when it closes. Days close by the
        records' own ``received``, never by the machine's clock; those of imported records never
        do. A record that an erasure covers, or that has the name of an erased record of the same
        subject, is ``erased``: it is not stored.

        Raises
        ------
        InputError
            If an id has not 1 to 64 characters; nothing was stored.
        StoreFull
            If nothing was stored for want of space; reads go on.
        """
        ...

    def find(self, source: str, id: str, time: int) -> Named | None:
        """Return the record that has a name on the day of ``time`` (µs), the client's own time.

        Called by the gateway before it answers a request that may have come before: a read that
        never waits for a writer. None where the day is closed; names of late and of imported
        records are not looked for.

        Raises
        ------
        InputError
            If the id has not 1 to 64 characters.
        """
        ...

    def declare(self, schemas: Mapping[str, bytes]) -> None:
        """Keep what schema ids mean, for ever: id to what ``feilun.records.schema`` writes.

        Called by whoever appends events, at start and before the first of them. Durable, and
        idempotent: what is known already is not written again.

        Raises
        ------
        Conflict
            If one of the ids has another meaning already; nothing was stored.
        InputError
            If an id has not 1 to ``SCHEMA_ID_LIMIT`` bytes; nothing was stored.
        StoreFull
            If there is no space; nothing was stored.
        """
        ...

    def schemas(self) -> dict[str, bytes]:
        """Return every schema id that was ever declared, with its meaning.

        Called by whoever decodes bodies, at start.
        """
        ...

    def counts(self) -> dict[str, Count]:
        """Return how many records of each schema were stored since the log counts them.

        Called at start, and by whoever watches. Exact: counted in the transaction that stores.
        """
        ...

    def read_batches(self, start: int, limit: int = 10_000) -> list[RecordBatch]:
        """Return the records at up to ``limit`` offsets from ``start`` on, in columns, in order.

        Called by the engine, training and the lake, all the time. The batches lie one behind the
        other: the last one's ``end`` is where to read on. Returns an empty list at the end of the
        log, and only there; erased records are left out, and a batch may have none left.

        Raises
        ------
        CorruptData
            As `read` does.
        """
        ...

    def read(self, start: int, limit: int = 10_000) -> list[tuple[int, Record]]:
        """Return up to ``limit`` records from offset ``start`` on, with their offsets, in order.

        Called by the flywheel and by people. Returns an empty list at the end, and only there:
        erased records are left out.

        Raises
        ------
        CorruptData
            If the record at ``start`` fails its check; the message names the offsets that cannot
            be read. Those before it are returned without an error, those behind it can be read.
        """
        ...

    def damaged(self) -> list[tuple[int, int]]:
        """Return the offsets that cannot be read, as half-open ranges in order.

        Called before a rebuild. It reads the whole log, and checks every record.
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

        Called by the collector for each body that holds some. Returns their numbers. Of what
        speaks of somebody who is erased neither the bytes nor the reason are kept.
        """
        ...

    def bad(self, start: int = 0, limit: int = 1_000) -> list[BadEvent]:
        """Return up to ``limit`` bad events from number ``start`` on, oldest first.

        Called by people. Of what was kept the oldest may have given way to the newest.
        """
        ...

    def erasures(self) -> Erasures | None:
        """Return who is erased, so that `append` refuses it; None before the first erasure."""
        ...

    def covered(self, erasures: Erasures, subjects: Collection[str] = ()) -> Covered:
        """Return what an erasure would take.

        Called by an erasure before it begins. ``subjects`` are those that are looked for, by the
        log's index of them; if none is given every record is looked at.

        Raises
        ------
        CorruptData
            If some of the records cannot be read: they may be about the subject.
        """
        ...

    def erase(self, erasures: Erasures, subjects: Collection[str] = ()) -> int:
        """Take every record that is covered out of the log, with its name; return how many.

        Called while nothing else works on the log. What is left is written anew, so that not a
        byte of what is erased stays in any file; then it takes the place of the old in one step.
        Offsets stay as they are. Bad events go that were received before the moment and speak of a
        subject, as far as ``feilun.records.erasure.mentioned`` can tell. From then on `erasures`
        are these and those from before. Idempotent: after a crash, call it again.

        Raises
        ------
        Unavailable
            If another process has the log open; nothing was changed.
        CorruptData
            As `covered` does; nothing was changed.
        StoreFull
            If the disk has no space for what is left; nothing was changed.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
