"""Ranges of sorted events: how a past read finds them, and makes few rows of many events."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from feilun.aggregation.folding import lift
from feilun.aggregation.frames import Array, EventFrame, Int64
from feilun.aggregation.plan import Plan
from feilun.aggregation.segments import expand

_LARGEST = 1 << 62
_PER_EVENT = 16
"""Ranges that hold more events than this many times all events are covered by a tree."""


class Ranges(NamedTuple):
    """For each query the events ``[lo, hi)``, which count, and ``[doubt, end)``, which may."""

    lo: Int64
    hi: Int64
    doubt: Int64
    end: Int64


class Line:
    """Pairs of a code and a value as one number each, in the same order, to be searched.

    Parameters
    ----------
    codes : int64 array
        Not negative, ascending.
    values : int64 array
        Any.
    """

    def __init__(self, codes: Int64, values: Int64) -> None:
        self._distinct: Int64 | None = None
        self._first = int(values.min()) if len(values) else 0
        self._width = (int(values.max()) if len(values) else 0) - self._first + 2
        most = int(codes.max()) + 1 if len(codes) else 1
        if self._width * most >= _LARGEST:
            self._distinct = np.unique(values)
            self._width = len(self._distinct) + 1
        self.packed = self.pack(codes, values)

    def pack(self, codes: Int64, values: Int64) -> Int64:
        """Return one number a pair; a value above all has that of the next code's first."""
        if self._distinct is not None:
            return codes * self._width + np.searchsorted(self._distinct, values)
        inside = np.clip(values, self._first, self._first + self._width - 1)
        return codes * self._width + (inside - self._first)

    def first(self, codes: Int64, values: Int64 | int) -> Int64:
        """Return the first place at which the line is not below each pair."""
        return np.searchsorted(self.packed, self.pack(codes, np.asarray(values)))

    def begin(self, codes: Int64) -> Int64:
        """Return the first place of each code."""
        return np.searchsorted(self.packed, codes * self._width)


class Cover:
    """Rows that together are the state of each range.

    Parameters
    ----------
    plan : Plan
        Of one fold.
    events : EventFrame
        The events, in any order.
    order : int64 array
        Their order by key and time.
    ranges : Ranges
        ``lo`` and ``hi`` of each query.
    sorted_rows : callable
        Returns all events in their order, as rows of which every column merges by itself, and
        one row more.
    """

    def __init__(
        self,
        plan: Plan,
        events: EventFrame,
        order: Int64,
        ranges: Ranges,
        sorted_rows: Callable[[Plan], Array],
    ) -> None:
        self._plan = plan
        self._statistic = plan.statistics[0]
        self._events = events
        self._order = order
        self._lo, self._hi = ranges.lo, ranges.hi
        sizes = self._hi - self._lo
        self.costs = sizes + ranges.end - ranges.doubt
        """An upper bound of the rows of each query."""
        self._rows: Array | None = None
        self._levels: list[int] = []
        few = int(sizes.sum()) <= _PER_EVENT * (len(order) + len(sizes))
        if few and self._statistic.columnwise is not None:
            self._rows = sorted_rows(plan)
            self.costs = np.minimum(self.costs, 1 + ranges.end - ranges.doubt)
        elif not few and self._statistic.fixed_size:
            self._rows = self._grown(self._lifted(order))
            self.costs = np.minimum(sizes, 2 * len(self._levels)) + ranges.end - ranges.doubt

    def rows(self, part: slice) -> tuple[Int64, Array]:
        """Return the query of each row, counted from the part's first, and the rows."""
        lo, hi = self._lo[part], self._hi[part]
        if self._rows is None:
            queries, index = find_ranges(lo, hi)
            return queries, self._lifted(self._order[index])
        if not self._levels:
            return self._reduced(lo, hi, self._rows)
        queries, nodes = self._nodes(lo, hi)
        return queries, self._rows[nodes]

    def _lifted(self, index: Int64) -> Array:
        names = [*self._plan.fields]
        columns = {name: self._events.columns[name].take(index) for name in names}
        time, tie = self._events.time[index], self._events.tie[index]
        return lift(self._plan, EventFrame(time, tie, time, columns), time)

    def _reduced(self, lo: Int64, hi: Int64, rows: Array) -> tuple[Int64, Array]:
        """Reduce each range to one row; empty ones have none.

        ``reduceat`` takes overlapping ranges: between two it reduces what lies between, or one
        row where the next begins before, and that is thrown away.
        """
        queries = (lo < hi).nonzero()[0]
        pairs = np.column_stack((lo[queries], hi[queries])).ravel()
        merged = np.zeros(len(queries), self._plan.row_type)
        if len(pairs):
            for name, ufunc in (self._statistic.columnwise or {}).items():
                merged[name] = ufunc.reduceat(rows[name], pairs)[::2]
        return queries, merged

    def _grown(self, rows: Array) -> Array:
        """Append to the rows each level of pairwise merged rows; note where levels begin."""
        levels, begin = [rows], 0
        self._levels = [0]
        while len(levels[-1]) > 1:
            begin += len(levels[-1])
            self._levels.append(begin)
            pairs = np.arange(0, len(levels[-1]), 2)
            levels.append(self._statistic.merged(levels[-1], pairs))
        return np.concatenate(levels)

    def _nodes(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Cover the ranges by as few nodes of the tree as there are; pairs (query, row)."""
        queries, nodes = [], []
        active = np.flatnonzero(lo < hi)
        lo, hi = lo[active], hi[active]
        for begin in self._levels:
            odd = (lo & 1) == 1
            queries.append(active[odd])
            nodes.append(begin + lo[odd])
            lo = lo + odd
            odd = (hi & 1) == 1
            queries.append(active[odd])
            nodes.append(begin + hi[odd] - 1)
            lo, hi = lo >> 1, hi >> 1
            more = lo < hi
            active, lo, hi = active[more], lo[more], hi[more]
        return np.concatenate(queries), np.concatenate(nodes)


def find_ranges(lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
    """Return the query and the place of every event in the ranges ``[lo, hi)``."""
    index, offsets = expand(lo, hi)
    return np.repeat(np.arange(len(lo)), np.diff(offsets)), index
