"""Past events in bulk: rows of a file become records that can be imported again without harm.

A row's id is made of its source, its content and how many equal rows came before it, so that the
same file imported twice is all duplicates, and equal lines of one file are all kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from feilun.clock import to_iso
from feilun.definitions.specs import EventSpec, Project
from feilun.errors import InputError
from feilun.events.collector import KEPT_LIMIT
from feilun.events.declaring import declare
from feilun.events.items import content_digest, subject_of
from feilun.events.rows import RowReader
from feilun.ports.event_log import EventLog
from feilun.records.record import IMPORTED, Record

BATCH = 5_000
"""Rows that share a durable transaction."""

_encode = msgspec.msgpack.Encoder().encode


class Mapped(NamedTuple):
    """Which columns of the rows mean what.

    Attributes
    ----------
    time : str
        The column of the event's time: int µs UTC, a datetime, or ISO 8601; a time without a
        zone is in the project's.
    fields : mapping
        Field of the event to column, for those that are named otherwise.
    available : str or int
        The column that says when the event became known, or a delay after its time in µs.
    id : str or None
        The column of an id that is unique within the source; None: one is made of the content.
    """

    time: str
    fields: Mapping[str, str] = {}
    available: str | int = 0
    id: str | None = None


class Imported(NamedTuple):
    """How an import went. ``erased`` rows are from before their subject was erased: not stored."""

    rows: int
    accepted: int
    duplicates: int
    bad: int
    erased: int = 0


class Importer:
    """Turns rows into records of one event.

    Parameters
    ----------
    project : Project
        Where the event is defined.
    event : str
        Its name.
    source : str
        What the rows come from, such as ``orders``; stored as ``import:orders``, which no client
        can send.
    mapped : Mapped
        Which columns mean what.

    Raises
    ------
    InputError
        If the project has no such event, or ``mapped`` names a field that it has not.
    """

    def __init__(self, project: Project, event: str, source: str, mapped: Mapped) -> None:
        self._rows = RowReader(project, event, mapped.fields)
        self._mapped = mapped
        self._source = f"import:{source}"
        self._seen: Counter[bytes] = Counter()

    @property
    def source(self) -> str:
        """The source under which records are stored."""
        return self._source

    @property
    def event(self) -> EventSpec:
        """What each row is."""
        return self._rows.shape.spec

    def record(self, row: Mapping[str, Any], received: int) -> Record:
        """Return the row's record. Rows must come in the order of their file.

        Raises
        ------
        InputError
            If the row cannot be one, or has yet to happen; the message names the column.
        """
        shape = self._rows.shape
        values = self._rows.values(row)
        time = self._time(row, received)
        digest = content_digest(shape.spec, time, values)
        available = self._available(row, time, received)
        return Record(
            schema=shape.spec.schema_id,
            source=self._source,
            id=self._id(row, digest),
            time=time,
            received=received,
            client_time=time,
            available=available,
            subject=subject_of(shape, values),
            digest=digest,
            body=_encode(values),
            flags=IMPORTED,
        )

    def _time(self, row: Mapping[str, Any], received: int) -> int:
        """Return when the row happened: not after its receipt, for reads follow every record."""
        column = self._mapped.time
        time = self._rows.time(row, column, received)
        if time > received:
            raise InputError(
                f"{column}: {to_iso(time)} has yet to come; only what has happened is imported.",
                "Import it again then. A time without a zone is in the project's.",
            )
        return time

    def _available(self, row: Mapping[str, Any], time: int, received: int) -> int:
        if isinstance(self._mapped.available, int):
            return time + self._mapped.available
        available = self._rows.time(row, self._mapped.available, received)
        if available < time:
            raise InputError(f"{self._mapped.available}: it was known before it happened.")
        return available

    def _id(self, row: Mapping[str, Any], digest: bytes) -> str:
        if self._mapped.id is not None:
            name = row.get(self._mapped.id)
            if name is None or name == "":
                raise InputError(f"{self._mapped.id}: the row has no id.")
            return str(name)
        number = self._seen[digest]
        self._seen[digest] += 1
        return hashlib.blake2b(digest + number.to_bytes(8, "big"), digest_size=16).hexdigest()


def import_rows(
    importer: Importer,
    rows: Iterable[Mapping[str, Any]],
    log: EventLog,
    received: int,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Import rows into the log, batch by batch; keep those that cannot be used.

    Idempotent: rows imported before are counted as duplicates, so that an import that was
    interrupted is begun again.

    Parameters
    ----------
    importer : Importer
        Made anew for each file.
    rows : iterable of mapping
        Column to value.
    log : EventLog
        Where records go.
    received : int
        The time of the import, µs UTC. What has yet to happen then is bad.
    progress : callable
        Called with the number of rows done, after each batch.
    """
    declare(log, [importer.event])
    done = Imported(0, 0, 0, 0)
    for batch in _batches(rows):
        records, bad = [], []
        for row in batch:
            try:
                records.append(importer.record(row, received))
            except InputError as error:
                bad.append((str(error), repr(dict(row)).encode("utf-8", "replace")[:KEPT_LIMIT]))
        if bad:
            log.keep_bad_many(importer.source, received, bad)
        found = Counter(answer.status for answer in log.append(records))
        done = Imported(
            done.rows + len(batch),
            done.accepted + found["accepted"],
            done.duplicates + found["duplicate"],
            done.bad + len(bad) + found["conflict"],
            done.erased + found["erased"],
        )
        if progress is not None:
            progress(done.rows)
    return done


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
