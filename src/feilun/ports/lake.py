"""The lake: everything that the log had, in open tables, for training, backfills and people.

Derived data: it can be thrown away and written again from the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from feilun.aggregation.frames import Column, EventFrame
from feilun.definitions.specs import EventSpec

LakeType = Literal["int", "float", "bool", "str", "bytes", "time", "vector", "vector32"]
"""What a column holds: ``time`` is int64 µs UTC, a vector is float64 or float32 numbers."""

Known = Literal["offset", "available"]
"""What a frame's ``known`` holds: the log offset, or when each event became known (µs UTC)."""

EVENTS = "events."
"""The tables of events: this and the event's name."""
SYSTEM = "feilun."
"""The tables of what the system writes."""


class LakeField(NamedTuple):
    """One column of a table."""

    name: str
    type: LakeType


ENVELOPE = (
    LakeField("_offset", "int"),
    LakeField("_source", "str"),
    LakeField("_id", "str"),
    LakeField("_time", "time"),
    LakeField("_received", "time"),
    LakeField("_client_time", "time"),
    LakeField("_available", "time"),
    LakeField("_subject", "str"),
    LakeField("_tie", "int"),
    LakeField("_flags", "int"),
    LakeField("_schema", "str"),
)
"""What every table has beside its own columns, of each record; none of it is ever missing.

No field of an event begins with ``_``. ``_tie`` holds the 64 bits of ``Record.tie`` as signed.
"""


@dataclass(frozen=True, slots=True)
class LakeTable:
    """A table: its name, as ``events.<event>`` or ``feilun.<kind>``, and its own columns.

    Every one of them may be missing in a row.
    """

    name: str
    fields: tuple[LakeField, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one table.

    Parameters
    ----------
    table : LakeTable
        Whose rows they are.
    columns : mapping
        Each column of the envelope and of the table. Values are int64 (``int``, ``time``),
        float64, bool, or objects: str, bytes. Vectors are float64 of shape (rows, dim), or
        objects, each an array.
    """

    table: LakeTable
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.columns["_offset"].values)


class TableStatus(NamedTuple):
    """How one table stands.

    ``bytes`` is everything that lies on the disk for it; ``archived`` the offset (exclusive) up to
    which it was written; ``metadata`` the file from which other programs read it.
    """

    name: str
    rows: int
    files: int
    bytes: int
    snapshots: int
    archived: int
    metadata: str


class Maintained(NamedTuple):
    """What was tidied: files that became fewer, larger ones; snapshots and files removed."""

    compacted: int
    expired: int
    removed: int


class Deleted(NamedTuple):
    """What a deletion took: rows of the newest state, and the named snapshots made anew."""

    rows: int
    names: tuple[str, ...]


class Lake(Protocol):
    """Tables of records, written in runs of log offsets. Many readers, one writer at a time.

    Every method may raise Unavailable where another program changed a table meanwhile, or files
    went away under a reader: trying again helps.
    """

    def archived(self) -> int:
        """Return the offset below which every record of the log is in the lake.

        A table may already hold records beyond it, if a writer was stopped half-way.
        """
        ...

    def append(self, start: int, stop: int, chunks: Iterable[Rows]) -> int:
        """Write the records at offsets ``[start, stop)``; return how many rows were new.

        Called by the archiver, each time with ``start`` where the last ``stop`` was, and by whoever
        loads a lake in bulk. Each table is one commit, which also says how far it is; a table that
        is further than ``start`` already takes only what it lacks. So a caller that was stopped at
        any point starts again at `archived`, and nothing is lost or written twice. ``chunks`` may
        be any number of rows, of any tables, in any order: memory stays bounded. They are drawn
        while no other writer works, so that what is erased meanwhile from where they come from is
        not written. New columns are added to a table, and a column of int becomes float.

        Raises
        ------
        ConfigError
            If a column would have to change its type in another way; nothing was written.
        StoreFull
            If there is no space; nothing was written to the tables not yet committed.
        """
        ...

    def frames(
        self,
        event: EventSpec,
        start: int = 0,
        stop: int | None = None,
        *,
        fields: Sequence[str] | None = None,
        known: Known = "offset",
        snapshot: str = "",
    ) -> Iterator[EventFrame]:
        """Read the events at offsets ``[start, stop)``, in any order, late ones left out.

        Called for backfills, training sets and benchmarks: millions of rows a second, in frames of
        bounded size.

        Parameters
        ----------
        event : EventSpec
            The event and the fields it has now: what older rows lack is absent.
        stop : int, optional
            `archived` if not given: beyond it some records may be missing.
        fields : sequence of str, optional
            The fields to read, if not all of them.
        known : {"offset", "available"}
            What ``known`` of the frames holds.
        snapshot : str
            The name under which `name_snapshot` kept a state; the newest state if empty.

        Raises
        ------
        UnknownName
            If no snapshot has that name.
        """
        ...

    def name_snapshot(self, name: str) -> int:
        """Keep the newest state of every table under ``name``; return what `archived` is in it.

        Called once a training set. Idempotent: a name that exists keeps what it names.
        """
        ...

    def forget_snapshot(self, name: str) -> None:
        """Let a named state go; its bytes go with the next `maintain`. Idempotent."""
        ...

    def maintain(self, now: int) -> Maintained:
        """Rewrite closed days of many files, and remove what is older than 48 h and not named.

        Called by the archiver, about once an hour; idempotent. A reader of the newest state, or of
        one not older than 48 h, is not disturbed. ``now`` is in µs UTC.
        """
        ...

    def subjects(self) -> Iterator[str]:
        """Return whom rows are about, in every table and snapshot; some may come several times.

        Called by an erasure that knows the erased by their hashes alone, as after a restore.
        """
        ...

    def delete_subject(self, subject: str, before: int) -> Deleted:
        """Remove every row about ``subject`` of a time before ``before`` (µs), and its bytes.

        Called by an erasure, after the log's. Files that hold such rows, in whatever snapshot, are
        written anew without them; snapshots that hold them are removed; named ones are made anew,
        and reported. When it returns, no file of the lake has a byte of those rows. Idempotent:
        after a crash, call it again.
        """
        ...

    def tables(self) -> list[TableStatus]:
        """Return how every table stands, by name. Called by people."""
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...


def event_table(event: EventSpec) -> LakeTable:
    """Return the table of an event.

    Examples
    --------
    >>> from feilun.definitions.specs import FieldSpec
    >>> event_table(EventSpec("click", 1, (FieldSpec("item_id", "int"),), None))
    LakeTable(name='events.click', fields=(LakeField(name='item_id', type='int'),))
    """
    fields = tuple(LakeField(field.name, field.dtype) for field in event.fields)
    return LakeTable(EVENTS + event.name, fields)
