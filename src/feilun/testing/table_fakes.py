"""Tables and what is remembered of them, in memory: for tests, and to see what the ports mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from feilun.ports.sync_store import REFUSED_LIMIT, SyncState, SyncStatus
from feilun.ports.table_source import Chunk, TableQuery, check_columns, unknown_table
from feilun.records.times import to_time

_PART = "rows"


class InMemoryTables:
    """`TableSource` on lists of rows.

    Parameters
    ----------
    tables : mapping
        Table to its rows, read as they are at each read; the first row has all columns.
    chunk : int
        How many rows come at a time.
    """

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], chunk: int = 2) -> None:
        self._tables = tables
        self._chunk = chunk

    def read(self, query: TableQuery, marks: Mapping[str, str]) -> Iterator[Chunk]:
        """Return rows in the order of their times, after those that have none."""
        if query.table not in self._tables:
            raise unknown_table("memory", query.table, list(self._tables))
        found = self._tables[query.table]
        zone = ZoneInfo(query.timezone)
        check_columns("memory", query, list(found[0]) if found else list(query.columns))
        after = int(marks[_PART]) - query.lookback if _PART in marks else -(2**63)
        untimed = [row for row in found if row[query.time] is None]
        timed = [(to_time(row[query.time], zone), row) for row in found if row not in untimed]
        timed = sorted(
            (pair for pair in timed if after <= pair[0] <= query.until), key=lambda pair: pair[0]
        )
        if untimed:
            yield Chunk(untimed, _PART, "")
        furthest = int(marks.get(_PART, 0))
        for at in range(0, len(timed), self._chunk):
            part = timed[at : at + self._chunk]
            furthest = max(furthest, part[-1][0])
            yield Chunk([dict(row) for _, row in part], _PART, str(furthest))

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class InMemorySyncs:
    """`SyncStore` in a dictionary."""

    def __init__(self) -> None:
        self._states: dict[str, SyncState] = {}

    def load(self, table: str) -> SyncState | None:
        """Return what is kept of a table."""
        return self._states.get(table)

    def save(
        self,
        table: str,
        status: SyncStatus,
        marks: Mapping[str, str] | None = None,
        refused: Sequence[bytes] = (),
    ) -> None:
        """Keep the status, and add to it marks and refused rows."""
        known = self._states.get(table, SyncState(status, {}, ()))
        kept = list(dict.fromkeys([*known.refused, *refused]))[-REFUSED_LIMIT:]
        self._states[table] = SyncState(status, {**known.marks, **(marks or {})}, kept)

    def forget(self, table: str, *, refused: bool = False) -> None:
        """Forget a table's marks, and its refused rows if asked."""
        if (known := self._states.get(table)) is not None:
            kept = () if refused else known.refused
            self._states[table] = SyncState(known.status, {}, list(kept))

    def statuses(self) -> dict[str, SyncStatus]:
        """Return the status of every table that was ever synchronised."""
        return {name: state.status for name, state in sorted(self._states.items())}

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""
