"""The exam of a `TableSource`: subclass `TableSourceExam`, say how to fill one, and run pytest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from feilun.clock import HOUR, MINUTE
from feilun.errors import InputError
from feilun.ports.table_source import CHUNK_ROWS, Chunk, TableQuery, TableSource
from feilun.records.times import to_time
from feilun.testing.records import START

QUERY = TableQuery(
    table="stock",
    columns=("updated_at", "item", "商品 quantity"),
    optional=("note", "absent"),
    time="updated_at",
    until=START + 10 * HOUR,
    lookback=HOUR,
    timezone="UTC",
)


def row(item: int, time: int | None, quantity: int = 1) -> dict[str, Any]:
    """Return a row whose time is ``time`` µs after the exam's beginning."""
    when = None if time is None else datetime.fromtimestamp((START + time) / 1e6, UTC)
    return {
        "item": item,
        "商品 quantity": quantity,
        "note": "o'hara" if item % 2 else None,
        "unused": 1.5,
        "updated_at": when,
    }


class TableSourceExam(ABC):
    """What every source of tables must do.

    A source that names the table otherwise says so: ``query = QUERY._replace(table="shop.stock")``.
    """

    query: TableQuery = QUERY

    @abstractmethod
    def make(self, folder: Path) -> TableSource:
        """Return a source without tables that may keep its files in ``folder``."""

    @abstractmethod
    def put(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to the table ``stock`` of the source, making it with the first."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Iterator[TableSource]:
        """Give each test a source of its own."""
        source = self.make(tmp_path)
        yield source
        source.close()

    def test_the_first_read_finds_every_row_once(self, source: TableSource, tmp_path: Path) -> None:
        """With the columns asked for that are there, and no other."""
        self.put(tmp_path, [row(n, n * MINUTE) for n in range(20)])
        rows, _ = drain(source, self.query)
        assert sorted(items(rows)) == list(range(20))
        assert {frozenset(found) for found in rows} == {
            frozenset(("updated_at", "item", "商品 quantity", "note"))
        }
        by_item = {int(found["item"]): found for found in rows}
        assert to_time(by_item[7]["updated_at"], ZoneInfo("UTC")) == START + 7 * MINUTE
        assert (by_item[7]["note"], by_item[8]["note"]) == ("o'hara", None)

    def test_the_next_read_finds_what_is_new(self, source: TableSource, tmp_path: Path) -> None:
        """What was read may come again, if it is hardly older than the newest."""
        self.put(tmp_path, [row(n, n * HOUR) for n in range(5)])
        _, marks = drain(source, self.query)
        self.put(tmp_path, [row(10, 5 * HOUR)])
        rows, marks = drain(source, self.query, marks)
        assert 10 in items(rows)
        self.put(tmp_path, [row(11, 5 * HOUR + 1)])
        rows, _ = drain(source, self.query, marks)
        assert 11 in items(rows)

    def test_rows_that_are_committed_late_are_found(
        self, source: TableSource, tmp_path: Path
    ) -> None:
        """Within the lookback, and with the very time of the newest."""
        self.put(tmp_path, [row(n, n * HOUR) for n in range(5)])
        _, marks = drain(source, self.query)
        self.put(tmp_path, [row(10, 4 * HOUR), row(11, 3 * HOUR)])
        rows, _ = drain(source, self.query, marks)
        assert {10, 11} <= set(items(rows))

    def test_rows_of_the_future_are_found_when_it_has_come(
        self, source: TableSource, tmp_path: Path
    ) -> None:
        """A source may return them before; then the reader keeps no mark of their part."""
        self.put(tmp_path, [row(1, HOUR), row(2, 20 * HOUR)])
        _, marks = drain(source, self.query)
        rows, _ = drain(source, self.query._replace(until=START + 30 * HOUR), marks)
        assert 2 in items(rows)

    def test_reading_is_broken_off_after_any_chunk(
        self, source: TableSource, tmp_path: Path
    ) -> None:
        """Beginning again with the marks so far, nothing is left out; no chunk is too large."""
        count = CHUNK_ROWS + 10
        self.put(tmp_path, [row(n, n * 1_000_000) for n in range(count)])
        found: set[int] = set()
        marks: dict[str, str] = {}
        sizes = []
        for taken in (1, 2, None):
            for number, chunk in enumerate(source.read(self.query, marks), 1):
                sizes.append(len(chunk.rows))
                found.update(items(chunk.rows))
                keep(marks, chunk, self.query, set())
                if number == taken:
                    break
        assert found == set(range(count))
        assert max(sizes) <= CHUNK_ROWS

    def test_looking_back_sets_no_mark_back(self, source: TableSource, tmp_path: Path) -> None:
        """Or one that is always broken off early would go back further each time."""
        self.put(tmp_path, [row(n, n * MINUTE) for n in range(4)])
        _, marks = drain(source, self.query)
        for chunk in source.read(self.query, marks):
            assert chunk.mark in ("", marks.get(chunk.part))

    def test_rows_without_a_time_come_too(self, source: TableSource, tmp_path: Path) -> None:
        """So that somebody can be told."""
        self.put(tmp_path, [row(1, HOUR), row(2, None)])
        rows, _ = drain(source, self.query)
        assert sorted(items(rows)) == [1, 2]

    def test_what_is_not_there_is_said(self, source: TableSource, tmp_path: Path) -> None:
        """With what is there instead."""
        self.put(tmp_path, [row(1, HOUR)])
        with pytest.raises(InputError, match="stok"):
            list(source.read(self.query._replace(table="stok"), {}))
        lacking = self.query._replace(columns=("updated_at", "item", "商品 quantities"))
        with pytest.raises(InputError, match="商品 quantity"):
            list(source.read(lacking, {}))


def items(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return which rows these are."""
    return [int(found["item"]) for found in rows]


def drain(
    source: TableSource, query: TableQuery, marks: Mapping[str, str] | None = None
) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """Read to the end as a sync does; return the rows and the marks."""
    rows: list[Mapping[str, Any]] = []
    kept = dict(marks or {})
    unfinished: set[str] = set()
    for chunk in source.read(query, kept):
        rows += chunk.rows
        keep(kept, chunk, query, unfinished)
    return rows, kept


def keep(marks: dict[str, str], chunk: Chunk, query: TableQuery, unfinished: set[str]) -> None:
    """Keep a chunk's mark, unless its part holds rows that are yet to come."""
    zone = ZoneInfo(query.timezone)
    times = [to_time(found[query.time], zone) for found in chunk.rows if found[query.time]]
    if max(times, default=0) > query.until:
        unfinished.add(chunk.part)
    if chunk.mark and chunk.part not in unfinished:
        marks[chunk.part] = chunk.mark
