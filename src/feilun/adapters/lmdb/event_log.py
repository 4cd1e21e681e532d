"""The event log on LMDB. ``docs/formats.md`` documents what it stores.

Seven databases beside ``meta``: ``batches`` (first offset → a checked batch of records), ``open``
(names of open days → offset and digest), ``kept`` (names of late and imported records, for as long
as those are kept), ``subjects`` (hash of a subject, segment → nothing: the segment has records
about it), ``schemas`` (id → meaning), ``erased`` (hash of a subject → moment, and hashes of the
names of erased records) and ``bad``. Everything that one append changes, it changes in one
transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lmdb

from feilun.adapters.lmdb.bad_events import BadEvents
from feilun.adapters.lmdb.environment import Environment
from feilun.adapters.lmdb.erased import Erased, Rewrite, covered_rows
from feilun.adapters.lmdb.names import Names, Naming
from feilun.adapters.lmdb.subjects import Subjects, index_key
from feilun.errors import Conflict, CorruptData, InputError, StoreFull
from feilun.ports.event_log import Appended, BadEvent, Count, Covered, Named
from feilun.records import identity
from feilun.records.batch import RecordBatch
from feilun.records.codec import decode_batch, encode_batch, encode_record
from feilun.records.erasure import Erasures, withheld
from feilun.records.lists import distinct
from feilun.records.record import LATE, Record
from feilun.records.rows import Rows
from feilun.records.schema import undeclared

KIND = "feilun-log"
VERSION = 1
SEGMENT = 65_536
"""Offsets a segment has: the unit in which records are found by subject and rewritten."""
BATCH = 1_024
"""The most records that one stored batch holds; no batch crosses a segment's end."""
DEFAULT_QUOTA_BYTES = 64 << 30
_BAD_SHARE = 10
"""Bad events may take one part in this many of the quota; then the oldest give way."""
_SWEEP = 256
_SWEEP_FULL = 100_000

_DATABASES = ("batches", "open", "kept", "subjects", "schemas", "erased", "bad")
_STATE = struct.Struct(">QQI")
_STATE_KEY = b"state"
_COUNT = struct.Struct(">QQ")
_COUNT_PREFIX = b"count/"
_NUMBER = struct.Struct(">Q")


class _State(NamedTuple):
    """Where the log stands: the next offset, the next bad number, the first open day."""

    end: int = 0
    bad_end: int = 0
    first_open: int = 0


class LmdbEventLog:
    """An ``EventLog`` in an LMDB folder, shared by the processes of one machine.

    Parameters
    ----------
    path : Path
        Its folder, made if absent; on a local disk.
    quota_bytes : int
        How many bytes it may hold; beyond it ``append`` raises StoreFull.
    dedup_days : int
        How many whole days a day of ids stays open behind the newest receipt. Time comes from
        the records alone, so that a replay closes the days that it closed the first time.
    alone : bool
        No other process may have it open meanwhile: for an erasure.

    Raises
    ------
    ConfigError
        If the folder cannot be opened, holds something else, or is of a newer format.
    Unavailable
        If an erasure has it for itself, or another process has it open where it is wanted alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        quota_bytes: int = DEFAULT_QUOTA_BYTES,
        dedup_days: int = identity.DEDUP_DAYS,
        alone: bool = False,
    ) -> None:
        self._env = Environment(
            path,
            kind=KIND,
            version=VERSION,
            databases=_DATABASES,
            quota_bytes=quota_bytes,
            alone=alone,
        )
        self._quota = quota_bytes
        self._days = dedup_days
        self._bind()

    def _bind(self) -> None:
        self._batches, open_names, kept, subjects, self._schemas, erased, bad = (
            self._env.databases[name] for name in _DATABASES
        )
        self._names = Names(open_names, kept, self._days)
        self._subjects = Subjects(subjects)
        self._bad = BadEvents(self._env, bad, self._quota // _BAD_SHARE)
        self._erased = Erased(self._env, erased)

    def append(self, records: Sequence[Record]) -> Sequence[Appended]:
        """Append records with their ids in one durable transaction; one answer per record.

        When the log is full it first forgets the ids of closed days and tries once more.

        Raises
        ------
        StoreFull
            If nothing was stored for want of space; reads go on.
        """
        if not records:
            return []
        rows = Rows.of(records)
        if refused := self._erased.refused(rows):
            places = range(len(rows))
            rest = iter(self.append(rows.chosen([at for at in places if at not in refused])))
            return [Appended("erased", -1) if at in refused else next(rest) for at in places]
        try:
            return self._append(rows)
        except StoreFull:
            if not self._free(rows):
                raise
            return self._append(rows)

    def _append(self, rows: Rows) -> Sequence[Appended]:
        with self._env.write() as txn:
            state = self._state(txn)
            work = Naming(state.end, state.first_open)
            accepted, answers = self._names.take(txn, rows, work)
            self._store(txn, state.end, accepted)
            new = self._index(txn, state.end, accepted.subject)
            self._count(txn, accepted)
            bad_end = state.bad_end
            for record, reason in work.conflicts:
                raw = encode_record(record)
                event = BadEvent(bad_end, record.received, record.source, reason, raw)
                self._bad.put(txn, event)
                bad_end += 1
            end = state.end + len(accepted)
            if (changed := _State(end, bad_end, work.first_open)) != state:
                self._save(txn, changed)  # an append of duplicates alone then writes nothing
            self._names.sweep(txn, work.first_open, _SWEEP + 2 * len(rows))
        for segment, subjects in new:
            self._subjects.remember(segment, subjects)
        return answers

    def _free(self, records: Iterable[Record]) -> int:
        """Close the days that these records leave behind, and forget many of their names."""
        with self._env.write() as txn:
            state = self._state(txn)
            work = Naming(state.end, state.first_open)
            self._names.close_days(txn, records, work)
            self._save(txn, state._replace(first_open=work.first_open))
            return self._names.sweep(txn, work.first_open, _SWEEP_FULL)

    def _store(self, txn: lmdb.Transaction[bytes], base: int, accepted: Rows) -> None:
        at = 0
        while at < len(accepted):
            offset = base + at
            rows = accepted[at : at + min(BATCH, SEGMENT - offset % SEGMENT)]
            # Offsets only grow, so every page is filled before the next is begun.
            key, raw = _NUMBER.pack(offset), encode_batch(offset, rows)
            if not txn.put(key, raw, db=self._batches, append=True):
                raise CorruptData(
                    f"The log ends at offset {offset}, yet holds a batch from there on."
                )
            at += len(rows)

    def _index(
        self, txn: lmdb.Transaction[bytes], base: int, subjects: Sequence[str]
    ) -> list[tuple[int, set[str]]]:
        """Put whom the new records from offset ``base`` on are about; return who is new where."""
        new: list[tuple[int, set[str]]] = []
        at = 0
        while at < len(subjects):
            segment = (base + at) // SEGMENT
            end = (segment + 1) * SEGMENT - base
            new.append((segment, self._subjects.put(txn, segment, subjects[at:end])))
            at = end
        return new

    def _count(self, txn: lmdb.Transaction[bytes], rows: Rows) -> None:
        """Count what is stored. The state lies in the same pages, so this dirties no other."""
        late: list[str] = []
        if any(rows.flags):
            late = [s for s, flags in zip(rows.schema, rows.flags, strict=True) if flags & LATE]
        for schema in distinct(rows.schema):
            key = _COUNT_PREFIX + schema.encode()
            raw = txn.get(key, db=self._env.meta)
            before = Count(0, 0) if raw is None else Count(*_COUNT.unpack(raw))
            after = before.records + rows.schema.count(schema), before.late + late.count(schema)
            txn.put(key, _COUNT.pack(*after), db=self._env.meta)

    def begin_at(self, offset: int) -> None:
        """Let an empty log begin behind ``offset``: the offsets before it stay empty for ever.

        For one that takes the place of a log that is lost, of which others remember offsets.

        Raises
        ------
        Conflict
            If it has offsets already.
        """
        with self._env.write() as txn:
            state = self._state(txn)
            if state.end:
                raise Conflict(f"The log has begun: it ends at offset {state.end}.")
            end = -(-offset // SEGMENT) * SEGMENT
            for base in range(0, end, SEGMENT):
                raw = encode_batch(base, [None] * SEGMENT)
                txn.put(_NUMBER.pack(base), raw, db=self._batches, append=True)
            self._save(txn, state._replace(end=end))

    def find(self, source: str, id: str, time: int) -> Named | None:
        """Return the record that has a name on the day of ``time``. A few microseconds."""
        return self._names.find(self._env, identity.day_of(time), source, id)

    def declare(self, schemas: Mapping[str, bytes]) -> None:
        """Keep what schema ids mean, for ever; what is known already writes nothing.

        Raises
        ------
        Conflict
            If one of the ids has another meaning already; nothing was stored.
        StoreFull
            If there is no space; nothing was stored.
        """
        if not undeclared(schemas, self.schemas().get):
            return
        with self._env.write() as txn:
            # Another process may have declared since.
            for schema_id, meaning in undeclared(schemas, self._meanings(txn).get).items():
                txn.put(schema_id.encode(), meaning, db=self._schemas)

    def schemas(self) -> dict[str, bytes]:
        """Return every schema id that was ever declared, with its meaning."""
        with self._env.read() as txn:
            return self._meanings(txn)

    def counts(self) -> dict[str, Count]:
        """Return how many records of each schema were stored since the log counts them."""
        found: dict[str, Count] = {}
        with self._env.read() as txn, txn.cursor(self._env.meta) as cursor:
            more = cursor.set_range(_COUNT_PREFIX)
            while more and cursor.key().startswith(_COUNT_PREFIX):
                schema = cursor.key().removeprefix(_COUNT_PREFIX).decode()
                found[schema] = Count(*_COUNT.unpack(cursor.value()))
                more = cursor.next()
        return found

    def _meanings(self, txn: lmdb.Transaction[bytes]) -> dict[str, bytes]:
        with txn.cursor(self._schemas) as cursor:
            return {key.decode(): meaning for key, meaning in cursor}

    def read_batches(self, start: int, limit: int = 10_000) -> list[RecordBatch]:
        """Return the records at up to ``limit`` offsets from ``start`` on, in columns, in order.

        Batches before a damaged one are returned; a read that begins in it raises.

        Raises
        ------
        CorruptData
            If the batch that holds ``start`` fails its check; the message names its offsets. What
            follows it can still be read.
        """
        if start < 0:
            raise InputError(f"A log begins at offset 0, not {start}.")
        found: list[RecordBatch] = []
        for base, raw in self._raw_batches(start, limit):
            try:
                batch = _checked(base, raw)
            except CorruptData as error:
                if found:
                    return found
                raise self._damaged(base, error) from error
            found.append(batch.between(start, start + limit))
        return found

    def read(self, start: int, limit: int = 10_000) -> list[tuple[int, Record]]:
        """Return up to ``limit`` records from offset ``start`` on, with their offsets, in order.

        Raises
        ------
        CorruptData
            As `read_batches` does.
        """
        found: list[tuple[int, Record]] = []
        while not found and (batches := self.read_batches(start, limit)):
            for batch in batches:
                found += batch.records()
            start = batches[-1].end
        return found

    def _raw_batches(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        """Copy the batches that hold ``limit`` offsets from ``start`` on; decoding comes after."""
        batches: list[tuple[int, bytes]] = []
        with self._env.read() as txn, txn.cursor(self._batches) as cursor:
            stop = min(start + limit, self._state(txn).end)
            if start >= stop:
                return batches
            more = cursor.set_range(_NUMBER.pack(start))
            if not more or _offset(cursor) > start:
                more = cursor.prev() if more else cursor.last()
            while more and (base := _offset(cursor)) < stop:
                batches.append((base, cursor.value()))
                more = cursor.next()
        return batches

    def _damaged(self, base: int, error: CorruptData) -> CorruptData:
        """Say which offsets cannot be read."""
        with self._env.read() as txn, txn.cursor(self._batches) as cursor:
            more = cursor.set_range(_NUMBER.pack(base + 1))
            end = _offset(cursor) if more else self._state(txn).end
        return CorruptData(
            f"The log's records at offsets {base} to {end - 1} are damaged: {error.message}",
            error.hint or f"From offset {end} on it can be read; a backup mends the rest.",
        )

    def damaged(self) -> list[tuple[int, int]]:
        """Return the offsets of batches that fail their check or are not there."""
        found: list[tuple[int, int]] = []
        end, whole = self.end(), 0
        for part in self._env.parts("batches"):
            for key, raw in part:
                base = _NUMBER.unpack(key)[0]
                try:
                    batch = _checked(base, raw)
                except CorruptData:
                    continue  # the next batch that can be read does not begin where this one ended
                if base > whole:
                    found.append((whole, base))
                whole = batch.end
        return [*found, (whole, end)] if whole < end else found

    def end(self) -> int:
        """Return the offset that the next record will get. A few microseconds."""
        with self._env.read() as txn:
            return self._state(txn).end

    def keep_bad(self, source: str, reason: str, raw: bytes, received: int) -> int:
        """Keep something unusable with its reason; return its number. Durable.

        Bad events have a tenth of the quota; beyond it the oldest give way.
        """
        return self.keep_bad_many(source, received, [(reason, raw)])[0]

    def keep_bad_many(
        self, source: str, received: int, items: Sequence[tuple[str, bytes]]
    ) -> list[int]:
        """Keep unusable items, each a reason and its bytes, in one durable transaction."""
        if not items:
            return []
        items = withheld(self._erased.erasures, items)
        with self._env.write() as txn:
            state = self._state(txn)
            numbers = list(range(state.bad_end, state.bad_end + len(items)))
            for number, (reason, raw) in zip(numbers, items, strict=True):
                self._bad.put(txn, BadEvent(number, received, source, reason, raw))
            self._save(txn, state._replace(bad_end=state.bad_end + len(items)))
        return numbers

    def bad(self, start: int = 0, limit: int = 1_000) -> list[BadEvent]:
        """Return bad events from number ``start`` on.

        Raises
        ------
        CorruptData
            If one fails its check.
        """
        return self._bad.read(start, limit)

    def erasures(self) -> Erasures | None:
        """Return who is erased; None before the first erasure."""
        return self._erased.erasures

    def covered(self, erasures: Erasures, subjects: Collection[str] = ()) -> Covered:
        """Return what an erasure would take.

        Raises
        ------
        CorruptData
            If some of the records cannot be read.
        """
        segments = self._segments_of(subjects)
        offsets: list[int] = []
        newest = 0
        for part in self._env.parts("batches"):
            for key, raw in part:
                base = _NUMBER.unpack(key)[0]
                if segments is None or base // SEGMENT in segments:
                    batch = self._readable(base, raw)
                    found = covered_rows(batch, erasures)
                    if len(found):
                        offsets += sorted(batch.offsets[found].tolist())
                        newest = max(newest, int(batch.time[found].max()))
        return Covered(offsets, newest)

    def erase(self, erasures: Erasures, subjects: Collection[str] = ()) -> int:
        """Take every record that is covered out of the log; what is left is written anew.

        Raises
        ------
        Unavailable
            If another process has the log open; nothing was changed.
        CorruptData
            If some of the records cannot be read; nothing was changed.
        StoreFull
            If the disk has no space for what is left; nothing was changed.
        """
        before = self._erased.erasures
        erasures = erasures if before is None else erasures.merged(before.moments)
        with self._env.replaced() as fresh:
            work = Rewrite(self._env, fresh, erasures, SEGMENT)
            segments = self._segments_of(subjects)
            work.copy_batches(
                lambda base: segments is None or base // SEGMENT in segments, self._readable
            )
            work.copy_names()
            work.copy_subjects(index_key)
            work.copy_rest()
        self._bind()
        return len(work.gone)

    def _segments_of(self, subjects: Collection[str]) -> frozenset[int] | None:
        """Return the segments that may hold records about the subjects; None: all of them."""
        if not subjects:
            return None
        return frozenset(segment for subject in subjects for segment in self.segments(subject))

    def _readable(self, base: int, raw: bytes) -> RecordBatch:
        try:
            return _checked(base, raw)
        except CorruptData as error:
            raise self._damaged(base, error) from error

    def segments(self, subject: str) -> list[int]:
        """Return the segments that hold records about ``subject``, for erasure.

        A segment may be named that holds none (two subjects may share a hash), never the reverse.
        """
        with self._env.read() as txn:
            return self._subjects.segments(txn, subject)

    def close(self) -> None:
        """Close the folder; further calls are errors."""
        self._env.close()

    def _state(self, txn: lmdb.Transaction[bytes]) -> _State:
        raw = txn.get(_STATE_KEY, db=self._env.meta)
        return _State() if raw is None else _State(*_STATE.unpack(raw))

    def _save(self, txn: lmdb.Transaction[bytes], state: _State) -> None:
        txn.put(_STATE_KEY, _STATE.pack(*state), db=self._env.meta)


def _offset(cursor: lmdb.Cursor[bytes]) -> int:
    return int.from_bytes(cursor.key(), "big")


def _checked(base: int, raw: bytes) -> RecordBatch:
    batch = decode_batch(raw)
    if batch.base != base:
        raise CorruptData(f"The batch says that it begins at offset {batch.base}.")
    return batch
