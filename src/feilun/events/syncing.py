"""Synchronisation: the rows of a table become records, each once, however often it is begun.

A row that is read again is a duplicate (`feilun.events.table_rows` says why). Rows are
appended first and the mark of how far reading has come is kept after, so that whatever breaks in
between, the next sync reads some rows again and loses none. What is refused is remembered by its
digest: it is kept among the bad events once, not at every sync.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec

from feilun.clock import MINUTE, SECOND, Clock
from feilun.definitions.specs import TableSpec, digest
from feilun.errors import FeilunError, InputError
from feilun.events.collector import KEPT_LIMIT
from feilun.events.declaring import declare
from feilun.events.table_rows import TableRows
from feilun.ports.event_log import EventLog
from feilun.ports.sync_store import SyncState, SyncStatus, SyncStore
from feilun.ports.table_source import Chunk, TableSource
from feilun.records.record import Record

FIRST_RETRY = 30 * SECOND
LAST_RETRY = 15 * MINUTE
"""A table that fails is tried again after these times, twice as long each time."""

_change = msgspec.structs.replace


def due_at(table: TableSpec, status: SyncStatus | None) -> int | None:
    """Return when a table is to be synchronised next, µs UTC; None: only when somebody says so.

    What was broken off is due at once. What failed is tried again after half a minute, then
    after twice as long each time, up to a quarter of an hour.
    """
    if table.every is None:
        return None
    if status is None or status.state == "running":
        return 0
    if status.state == "failed":
        return status.ended + min(FIRST_RETRY << min(status.failures - 1, 16), LAST_RETRY)
    return status.started + table.every


def sync_table(
    rows: TableRows,
    connect: Callable[[], TableSource],
    log: EventLog,
    store: SyncStore,
    clock: Clock,
    *,
    full: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> SyncStatus:
    """Bring what is new in a table into the log.

    Idempotent, and safe to break off anywhere, also by killing the process: the next one goes on
    from the last chunk whose mark was kept. Safe to run twice at once, which only costs time.

    Parameters
    ----------
    rows : TableRows
        Which table.
    connect : callable
        Opens the source of its rows, which is closed at the end.
    log : EventLog
        Where they go.
    store : SyncStore
        What is remembered from one sync to the next.
    clock : Clock
        Says when rows become known.
    full : bool
        Read the whole table; rows that are known stay as they are.
    stop : callable
        Asked between two chunks; if true, what was read so far is kept and the rest left.

    Returns
    -------
    SyncStatus
        How it went; ``running`` if it was told to stop.

    Raises
    ------
    FeilunError
        If the source, the log or the store failed; the status says so too.
    """
    sync = _Sync(rows, log, store, clock)
    try:
        sync.begin(full)
        with closing(connect()) as source:
            for chunk in source.read(sync.query, sync.marks):
                sync.take(chunk)
                if stop():
                    return sync.status
        return sync.end()
    except Exception as error:
        sync.fail(error)
        raise


class _Sync:
    """One synchronisation under way."""

    def __init__(self, rows: TableRows, log: EventLog, store: SyncStore, clock: Clock) -> None:
        self._rows = rows
        self._name = rows.event.name
        self._log = log
        self._store = store
        self._clock = clock
        self.status = SyncStatus(started=clock.now(), origin=_origin(rows))
        self.query = rows.query(until=self.status.started)
        self.marks: Mapping[str, str] = {}
        self._refused: set[bytes] = set()
        self._unfinished: set[str] = set()

    def begin(self, full: bool) -> None:
        """Take up what is remembered, as far as it still speaks of this table and this log."""
        declare(self._log, [self._rows.event])
        known = self._store.load(self._name)
        if known is not None:
            self._take_up(known, full)
        self.status = _change(self.status, log_end=self._log.end())
        self._store.save(self._name, self.status)

    def _take_up(self, known: SyncState, full: bool) -> None:
        self.status = _change(self.status, failures=known.status.failures)
        same_table = known.status.origin == self.status.origin
        # A log that was put back to an earlier state lacks what marks and refusals rest on.
        if not same_table or known.status.log_end > self._log.end():
            self._store.forget(self._name, refused=True)
            return
        self.status = _change(self.status, watermark=known.status.watermark)
        self._refused = set(known.refused)
        if full:
            self._store.forget(self._name)
        else:
            self.marks = known.marks

    def take(self, chunk: Chunk) -> None:
        """Append a chunk's rows, keep what cannot be used, then keep the mark."""
        received = max(self._clock.now(), self.query.until)  # a clock may step back
        records, bad, ahead = self._read(chunk.rows, received)
        refused = self._keep_bad(bad, received)
        if ahead:
            self._unfinished.add(chunk.part)
        counts = self._append(records, refused)
        newest = [self.status.watermark] if self.status.watermark is not None else []
        newest += [record.time for record in records]
        status = self.status
        self.status = _change(
            status,
            rows=status.rows + len(chunk.rows),
            new=status.new + counts["accepted"],
            duplicates=status.duplicates + counts["duplicate"],
            conflicts=status.conflicts + counts["conflict"],
            bad=status.bad + len(bad),
            erased=status.erased + counts["erased"],
            ahead=status.ahead + ahead,
            watermark=max(newest, default=None),
            log_end=self._log.end(),
        )
        done = chunk.mark and chunk.part not in self._unfinished
        marks = {chunk.part: chunk.mark} if done else {}
        self._store.save(self._name, self.status, marks, refused)
        self._refused.update(refused)

    def _read(
        self, rows: Iterable[Mapping[str, Any]], received: int
    ) -> tuple[list[Record], list[tuple[str, bytes]], int]:
        """Return records, what cannot be one with its reason, and how many have yet to happen."""
        records: list[Record] = []
        bad: list[tuple[str, bytes]] = []
        ahead = 0
        for row in rows:
            try:
                time = self._rows.time(row, received)
                if time > self.query.until:
                    ahead += 1
                else:
                    records.append(self._rows.record(row, time, received))
            except InputError as error:
                raw = repr(dict(row)).encode("utf-8", "replace")[:KEPT_LIMIT]
                bad.append((str(error), raw))
        return records, bad, ahead

    def _keep_bad(self, bad: Iterable[tuple[str, bytes]], received: int) -> list[bytes]:
        """Keep what was not refused before; return the digests of it."""
        new = {name: item for item in bad if (name := _digest(*item)) not in self._refused}
        self._log.keep_bad_many(self._rows.source, received, list(new.values()))
        return list(new)

    def _append(self, records: Sequence[Record], refused: list[bytes]) -> dict[str, int]:
        """Append what was not refused before; count the answers and add what is refused now."""
        counts = {"accepted": 0, "duplicate": 0, "conflict": 0, "erased": 0}
        fresh = []
        for record in records:
            if _digest(record.id, record.digest) in self._refused:
                counts["conflict"] += 1
            else:
                fresh.append(record)
        for record, answer in zip(fresh, self._log.append(fresh), strict=True):
            counts[answer.status] += 1
            if answer.status == "conflict":
                refused.append(_digest(record.id, record.digest))
        return counts

    def end(self) -> SyncStatus:
        """Note that all has been read."""
        self.status = _change(self.status, state="done", ended=self._clock.now(), failures=0)
        self._store.save(self._name, self.status)
        return self.status

    def fail(self, error: Exception) -> None:
        """Note why it was given up."""
        said = str(error) if isinstance(error, FeilunError) else f"{type(error).__name__}: {error}"
        self.status = _change(
            self.status,
            state="failed",
            ended=self._clock.now(),
            failures=self.status.failures + 1,
            error=said,
        )
        self._store.save(self._name, self.status)


def _origin(rows: TableRows) -> str:
    """Name what marks speak of. A new version of a table makes all its rows new ones."""
    table = rows.table
    return digest(table.source, table.table, table.key, table.time, rows.event.version)


def _digest(reason: str, raw: bytes) -> bytes:
    return hashlib.blake2b(reason.encode("utf-8", "replace") + raw, digest_size=8).digest()
