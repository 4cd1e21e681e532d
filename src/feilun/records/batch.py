"""Records in columns: what one append stores, read without making a ``Record`` of each row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from feilun.records.columns import (
    DIGEST_BYTES,
    NUMBER_BYTES,
    PLACE_BYTES,
    Columns,
    cells,
    columns_of,
    filled,
    integers,
    texts,
)
from feilun.records.record import Record

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
UInt8 = npt.NDArray[np.uint8]

_TIME, _TIE, _PLACE = np.dtype("<i8"), np.dtype("<u8"), np.dtype("<u2")


class RecordBatch:
    r"""The records at offsets ``base`` to ``end - 1``, those that were erased left out.

    Its columns are made at each access, so keep what is used twice. Rows are ordered by schema,
    as ``runs`` names them, and by offset within a schema: row ``i`` of one column belongs to row
    ``i`` of every other.

    Attributes
    ----------
    base, end : int
        The first offset, and the one after the last, also where the last was erased.
    runs : list of Run
        The bodies, by schema: the rows of the first run come first.

    Examples
    --------
    >>> record = Record("click.v1", "web", "1", 5, 6, 5, 6, "user_id=7", b"d" * 16, b"\x91\x07")
    >>> batch = RecordBatch.of(10, [record, None, record])
    >>> batch.base, batch.end, len(batch), batch.offsets.tolist(), batch.time.tolist()
    (10, 13, 2, [10, 12], [5, 5])
    >>> [run.schema for run in batch.runs], batch.records()[1] == (12, record)
    (['click.v1'], True)
    """

    __slots__ = ("_columns", "_rows", "base", "end", "runs")

    def __init__(self, base: int, end: int, columns: Columns) -> None:
        self.base = base
        self.end = end
        self.runs = columns.runs
        self._columns = columns
        self._rows = sum([run.rows for run in columns.runs])

    @classmethod
    def of(cls, base: int, rows: Sequence[Record | None]) -> RecordBatch:
        """Return records at consecutive offsets from ``base`` on as columns; None: erased.

        Raises
        ------
        InputError
            If there are more than ``ROW_LIMIT``, or one has a time beyond int64, a digest that has
            not 16 bytes, or flags beyond a byte.
        """
        return cls(base, base + len(rows), columns_of(rows))

    def __len__(self) -> int:
        return self._rows

    @property
    def columns(self) -> Columns:
        """The batch as it is stored, without its offsets."""
        return self._columns

    @property
    def offsets(self) -> Int64:
        """Their places in the log."""
        if not self._columns.places:
            return np.arange(self.base, self.base + self._rows, dtype=np.int64)
        return self._places() + self.base

    @property
    def time(self) -> Int64:
        """Effective times, µs UTC."""
        return self._times(self._columns.time or self._columns.client_time)

    @property
    def received(self) -> Int64:
        """The collector's clock, µs UTC."""
        return self._times(self._columns.received)

    @property
    def client_time(self) -> Int64:
        """The times as clients gave them, µs UTC."""
        return self._times(self._columns.client_time)

    @property
    def available(self) -> Int64:
        """When each became known, µs UTC."""
        return self._times(self._columns.available or self._columns.received)

    @property
    def tie(self) -> UInt64:
        """``Record.tie`` of each, as it was when it was stored."""
        return np.frombuffer(filled(self._columns.tie, NUMBER_BYTES, self._rows), _TIE)

    @property
    def flags(self) -> UInt8:
        """``LATE``, ``IMPORTED``."""
        return np.frombuffer(filled(self._columns.flags, 1, self._rows), np.uint8)

    def records(self) -> list[tuple[int, Record]]:
        """Return the records with their offsets, in the order of the offsets.

        Raises
        ------
        CorruptData
            If the columns do not fit together.
        """
        columns, rows = self._columns, self._rows
        client_time = integers("q", columns.client_time, rows)
        received = integers("q", columns.received, rows)
        digests = filled(columns.digest, DIGEST_BYTES, rows)
        records = map(
            Record,
            [run.schema for run in self.runs for _ in range(run.rows)],
            self.sources(),
            self.ids(),
            integers("q", columns.time, rows) if columns.time else client_time,
            received,
            client_time,
            integers("q", columns.available, rows) if columns.available else received,
            self.subjects(),
            cells(digests, DIGEST_BYTES),
            [body for run in self.runs for body in run.bodies()],
            filled(columns.flags, 1, rows),
        )
        if not columns.places:
            return list(enumerate(records, self.base))
        places = integers("H", columns.places, rows)
        return sorted(
            [(self.base + at, record) for at, record in zip(places, records, strict=True)],
            key=itemgetter(0),
        )

    def sources(self) -> list[str]:
        """Return who sent each record."""
        names = self._columns.sources
        if not self._columns.source:
            return names[:1] * self._rows
        return [names[code] for code in integers("H", self._columns.source, self._rows)]

    def ids(self) -> list[str]:
        """Return the sender's id of each record."""
        return texts(self._columns.id, self._rows)

    def subjects(self) -> list[str]:
        """Return whom each record is about; empty if nobody."""
        return texts(self._columns.subject, self._rows)

    def between(self, start: int, stop: int) -> RecordBatch:
        """Return the part at offsets ``start`` to ``stop - 1``."""
        if start <= self.base and self.end <= stop:
            return self
        offsets = self.offsets
        rows = np.flatnonzero((offsets >= start) & (offsets < stop))
        return self._take(rows, max(self.base, start), min(self.end, stop))

    def without(self, offsets: Collection[int]) -> RecordBatch:
        """Return the batch as if the records at ``offsets`` had been erased."""
        drop = np.isin(self.offsets, np.fromiter(offsets, np.int64, len(offsets)))
        return self._take(np.flatnonzero(~drop), self.base, self.end) if drop.any() else self

    def unflagged(self, flag: int) -> RecordBatch:
        """Return the batch without the records that have ``flag``."""
        if not any(value & flag for value in set(self._columns.flags)):
            return self
        return self._take(np.flatnonzero(self.flags & flag == 0), self.base, self.end)

    def _take(self, rows: npt.NDArray[np.intp], base: int, end: int) -> RecordBatch:
        """Return the records of ``rows``, which grow, at their offsets."""
        whole, offsets = self._columns, self.offsets[rows] - base
        bounds = np.cumsum([0, *(run.rows for run in self.runs)])
        runs = [
            run.chosen((rows[(rows >= at) & (rows < at + run.rows)] - at).tolist())
            for run, at in zip(self.runs, bounds[:-1].tolist(), strict=True)
        ]
        in_order = len(rows) == end - base and bool((offsets == np.arange(end - base)).all())
        places = [] if in_order else offsets.tolist()
        columns = whole.chosen([run for run in runs if run.rows], places, rows)
        return RecordBatch(base, end, columns)

    def _times(self, column: bytes) -> Int64:
        return np.frombuffer(filled(column, NUMBER_BYTES, self._rows), _TIME)

    def _places(self) -> Int64:
        places = filled(self._columns.places, PLACE_BYTES, self._rows)
        return np.frombuffer(places, _PLACE).astype(np.int64)
