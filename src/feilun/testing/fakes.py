"""The ports in memory: the plainest thing that passes each port's exam. For tests only."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from feilun.errors import Fenced, InputError, StoreFull
from feilun.ports.event_log import Appended, BadEvent, Count, Covered, Named
from feilun.ports.online_store import KEY_LIMIT, Mark
from feilun.records import identity
from feilun.records.batch import RecordBatch
from feilun.records.codec import encode_record
from feilun.records.columns import ROW_LIMIT
from feilun.records.erasure import Erasures, mentioned, withheld
from feilun.records.record import LATE, Record
from feilun.records.schema import undeclared


class MemoryLog:
    """An ``EventLog`` in lists and dictionaries.

    Parameters
    ----------
    dedup_days : int
        How many whole days a day of ids stays open.
    quota : int or None
        The number of records after which ``append`` raises StoreFull; None: no limit. It may be
        changed at any time.
    """

    def __init__(self, dedup_days: int = identity.DEDUP_DAYS, quota: int | None = None) -> None:
        self.quota = quota
        self._days = dedup_days
        self._records: list[Record | None] = []
        self._bad: list[BadEvent] = []
        self._bad_end = 0
        self._schemas: dict[str, bytes] = {}
        self._counts: dict[str, Count] = {}
        self._open: dict[int, dict[bytes, tuple[int, bytes]]] = {}
        self._kept: dict[bytes, tuple[int, bytes]] = {}
        self._horizon = 0
        self._erasures: Erasures | None = None
        self._tombstones: set[bytes] = set()
        self._lock = threading.Lock()

    def append(self, records: Sequence[Record]) -> list[Appended]:
        """Append records with their ids; one answer per record."""
        with self._lock:
            if self.quota is not None and len(self._records) + len(records) > self.quota:
                raise StoreFull(f"The log in memory holds its {self.quota} records.")
            days = [identity.day_of(record.client_time) for record in records]
            keys = [
                identity.name_key(day, record.source, record.id)
                for day, record in zip(days, records, strict=True)
            ]
            return [self._append(*item) for item in zip(records, days, keys, strict=True)]

    def _append(self, record: Record, day: int, key: bytes) -> Appended:
        if self._is_erased(record, key):
            return Appended("erased", -1)
        late = self._closes(record, day)
        kept = late or identity.never_closes(record)
        names = self._kept if kept else self._open.setdefault(day, {})
        if (first := names.get(key)) is not None:
            offset, digest = first
            if digest == record.digest:
                return Appended("duplicate", offset)
            reason = identity.conflict_reason(record, digest, offset)
            self._keep_bad(record.source, reason, encode_record(record), record.received)
            return Appended("conflict", -1)
        if late:
            record = msgspec.structs.replace(record, flags=record.flags | LATE)
        offset = len(self._records)
        self._records.append(record)
        count = self._counts.get(record.schema, Count(0, 0))
        self._counts[record.schema] = Count(count.records + 1, count.late + late)
        names[key] = (offset, record.digest)
        return Appended("late" if late else "accepted", offset)

    def _is_erased(self, record: Record, key: bytes) -> bool:
        erasures = self._erasures
        if erasures is None or erasures.moment(record.subject) is None:
            return False
        return (
            erasures.covers(record) or erasures.tombstone(record.subject, key) in self._tombstones
        )

    def _closes(self, record: Record, day: int) -> bool:
        """Close the days that this receipt leaves behind; say whether the record is late."""
        if identity.never_closes(record):
            return False
        first_open = identity.first_open_day(record.received, self._days)
        closed = [past for past in self._open if past < first_open]
        for past in closed:
            del self._open[past]
        self._horizon = max(self._horizon, 0, *(past + 1 for past in closed))
        late = day < max(first_open, self._horizon)
        if late:
            self._horizon = max(self._horizon, day + 1)
        return late

    def find(self, source: str, id: str, time: int) -> Named | None:
        """Return the record that has a name on the day of ``time``."""
        day = identity.day_of(time)
        found = self._open.get(day, {}).get(identity.name_key(day, source, id))
        return None if found is None else Named(*found)

    def declare(self, schemas: Mapping[str, bytes]) -> None:
        """Keep what schema ids mean."""
        with self._lock:
            self._schemas.update(undeclared(schemas, self._schemas.get))

    def schemas(self) -> dict[str, bytes]:
        """Return every schema id that was declared, with its meaning."""
        return dict(self._schemas)

    def counts(self) -> dict[str, Count]:
        """Return how many records of each schema were stored."""
        return dict(self._counts)

    def read_batches(self, start: int, limit: int = 10_000) -> list[RecordBatch]:
        """Return the records at up to ``limit`` offsets from ``start`` on, in columns."""
        if start < 0:
            raise InputError(f"A log begins at offset 0, not {start}.")
        records = self._records[start : start + limit]
        return [
            RecordBatch.of(start + at, records[at : at + ROW_LIMIT])
            for at in range(0, len(records), ROW_LIMIT)
        ]

    def read(self, start: int, limit: int = 10_000) -> list[tuple[int, Record]]:
        """Return up to ``limit`` records from offset ``start`` on."""
        if start < 0:
            raise InputError(f"A log begins at offset 0, not {start}.")
        found: list[tuple[int, Record]] = []
        while not found and start < len(self._records):
            rows = enumerate(self._records[start : start + limit], start)
            found = [(offset, record) for offset, record in rows if record is not None]
            start += max(limit, 1)
        return found

    def damaged(self) -> list[tuple[int, int]]:
        """Return no offsets: lists are not damaged."""
        return []

    def end(self) -> int:
        """Return the offset that the next record will get."""
        return len(self._records)

    def keep_bad(self, source: str, reason: str, raw: bytes, received: int) -> int:
        """Keep something unusable with its reason; return its number."""
        with self._lock:
            ((reason, raw),) = withheld(self._erasures, [(reason, raw)])
            return self._keep_bad(source, reason, raw, received)

    def keep_bad_many(
        self, source: str, received: int, items: Sequence[tuple[str, bytes]]
    ) -> list[int]:
        """Keep unusable items, each a reason and its bytes; return their numbers."""
        with self._lock:
            items = withheld(self._erasures, items)
            return [self._keep_bad(source, reason, raw, received) for reason, raw in items]

    def _keep_bad(self, source: str, reason: str, raw: bytes, received: int) -> int:
        number = self._bad_end
        self._bad_end += 1
        self._bad.append(BadEvent(number, received, source, reason, raw))
        return number

    def bad(self, start: int = 0, limit: int = 1_000) -> list[BadEvent]:
        """Return bad events from number ``start`` on."""
        return [event for event in self._bad if event.number >= start][:limit]

    def erasures(self) -> Erasures | None:
        """Return who is erased."""
        return self._erasures

    def covered(self, erasures: Erasures, subjects: Collection[str] = ()) -> Covered:
        """Return what an erasure would take."""
        found = [
            (offset, record.time)
            for offset, record in enumerate(self._records)
            if record is not None
            and (not subjects or record.subject in subjects)
            and erasures.covers(record)
        ]
        return Covered([offset for offset, _ in found], max([time for _, time in found], default=0))

    def erase(self, erasures: Erasures, subjects: Collection[str] = ()) -> int:
        """Take every record that is covered out of the log, with its name."""
        gone = dict.fromkeys(self.covered(erasures, subjects).offsets)
        for names in (self._kept, *self._open.values()):
            for key in [key for key, (offset, _) in names.items() if offset in gone]:
                record = self._records[names.pop(key)[0]]
                if record is not None:
                    self._tombstones.add(erasures.tombstone(record.subject, key))
        # A day without names is as one that never had any: no receipt closes it.
        self._open = {day: names for day, names in self._open.items() if names}
        for offset in gone:
            self._records[offset] = None
        self._bad = [b for b in self._bad if not mentioned(erasures, b.raw, b.received)]
        before = {} if self._erasures is None else self._erasures.moments
        self._erasures = erasures.merged(before)
        return len(gone)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class MemorySnapshot:
    """One moment of a ``MemoryStore``."""

    def __init__(self, values: dict[bytes, bytes], mark: Mark, version: int) -> None:
        self._values = values
        self._mark = mark
        self._version = version

    def mark(self) -> Mark:
        """Return how far the log was folded at this moment."""
        return self._mark

    def version(self) -> int:
        """Return how many changes there were before."""
        return self._version

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key; None where there is none."""
        return self._values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of ``keys``, in their order; None where there is none."""
        return [self._values.get(key) for key in keys]

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` keys behind ``after`` with their values, in the keys' order."""
        return sorted(pair for pair in self._values.items() if pair[0] > after)[:limit]


class MemoryStore:
    """An ``OnlineStore`` in a dictionary that each commit copies, so that snapshots hold still."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._mark = Mark(0, 0)
        self._version = 0
        self._lock = threading.Lock()

    def _become(self, values: dict[bytes, bytes], mark: Mark) -> None:
        self._values, self._mark = values, mark
        self._version += 1

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        """Open one moment for reading."""
        with self._lock:
            moment = MemorySnapshot(self._values, self._mark, self._version)
        yield moment

    def commit(self, puts: Iterable[tuple[bytes, bytes]], expected: int, mark: Mark) -> None:
        """Store ``puts`` and move the mark, if the stored offset is ``expected``."""
        with self._lock:
            if self._mark.offset != expected:
                raise Fenced(
                    f"The store stands at offset {self._mark.offset}, not {expected}.",
                    "Another engine folds into it; stop this one.",
                )
            values = dict(self._values)
            for key, value in puts:
                if not 0 < len(key) <= KEY_LIMIT:
                    raise InputError(f"A store key has 1 to {KEY_LIMIT} bytes, not {len(key)}.")
                values[key] = value
            self._become(values, mark)

    def discard(self, prefix: bytes, limit: int) -> int:
        """Delete up to ``limit`` values whose keys begin with ``prefix``; return how many."""
        with self._lock:
            found = [key for key in sorted(self._values) if key.startswith(prefix)][:limit]
            left = {k: v for k, v in self._values.items() if k not in set(found)}
            self._become(left, self._mark)
        return len(found)

    def clear(self) -> None:
        """Forget everything; the mark returns to offset 0."""
        with self._lock:
            self._become({}, Mark(0, 0))

    def erase(self) -> None:
        """Forget everything."""
        self.clear()

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""
