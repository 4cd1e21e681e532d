"""Ranges of sorted events: how a past read finds them, and makes few rows of many events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from feilun.aggregation.folding import lift
from feilun.aggregation.frames import Array, EventFrame, Int64
from feilun.aggregation.plan import Plan
from feilun.aggregation.segments import expand

_LARGEST = 1 << 62
_PER_EVENT = 16
"""Ranges that hold more events than this many times all events are not taken one by one."""
_BLOCK = 64
"""Long ranges are reduced by blocks of that many values, of which blocks are made again."""


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
        self._codes = int(codes.max()) + 1 if len(codes) else 1
        if self._width * self._codes >= _LARGEST:
            self._distinct = np.unique(values)
            self._width = len(self._distinct) + 1
        self.packed = self.pack(codes, values)

    def pack(self, codes: Int64, values: Int64) -> Int64:
        """Return one number a pair; a value above all has that of the next code's first."""
        codes = np.minimum(codes, self._codes)  # one above all is as good, and fits into 64 bits
        if self._distinct is not None:
            return codes * self._width + np.searchsorted(self._distinct, values)
        inside = np.clip(values, self._first, self._first + self._width - 1)
        return codes * self._width + (inside - self._first)

    def first(self, codes: Int64, values: Int64 | int) -> Int64:
        """Return the first place at which the line is not below each pair."""
        return np.searchsorted(self.packed, self.pack(codes, np.asarray(values)))

    def begin(self, codes: Int64) -> Int64:
        """Return the first place of each code."""
        return np.searchsorted(self.packed, np.minimum(codes, self._codes) * self._width)


class Reducer:
    """Reduces ranges of values, which may overlap, by a ufunc.

    Integers are added exactly by differences of running totals, or where all are one number, as
    counts are, by multiplication. Anything else is reduced value by value where that is not much,
    and by blocks where ranges are long.

    Parameters
    ----------
    ufunc : numpy.ufunc
        Adds, or takes an extreme.
    values : array
        The values, along the first axis.
    """

    def __init__(self, ufunc: np.ufunc, values: Array) -> None:
        self._ufunc = ufunc
        self._each: int | None = None
        self._totals: Array | None = None
        self._blocks: Reducer | None = None
        if ufunc is np.add and values.dtype.kind == "i":
            self._each = _only(values)
            if self._each is None:
                self._totals = np.zeros(len(values) + 1, np.int64)
                np.cumsum(values, out=self._totals[1:])
        else:  # a range may end at the end, and ``reduceat`` then wants a value there
            self._values = np.concatenate((values, values[:1]))

    def reduce(self, lo: Int64, hi: Int64) -> Array:
        """Return the result of each range ``[lo, hi)``; none is empty.

        Examples
        --------
        >>> least = Reducer(np.minimum, np.array([3.0, 1.0, 2.0]))
        >>> least.reduce(np.array([0, 2, 0]), np.array([3, 3, 1])).tolist()
        [1.0, 2.0, 3.0]
        """
        if self._each is not None:
            return (hi - lo) * self._each
        if self._totals is not None:
            return np.asarray(self._totals[hi] - self._totals[lo])
        if _is_much(hi - lo, len(self._values)):
            return self._by_blocks(lo, hi)
        return self._one_by_one(lo, hi)

    def _one_by_one(self, lo: Int64, hi: Int64) -> Array:
        """Reduce value by value.

        ``reduceat`` takes overlapping ranges: between two it reduces what lies between, or takes
        one value where the next begins before, and that is thrown away.
        """
        if not len(lo):
            return self._values[:0]
        pairs = np.column_stack((lo, hi)).ravel()
        return np.asarray(self._ufunc.reduceat(self._values, pairs)[::2])

    def _by_blocks(self, lo: Int64, hi: Int64) -> Array:
        """Reduce the whole blocks in each range, and what lies before and behind them."""
        if self._blocks is None:
            starts = np.arange(0, len(self._values), _BLOCK)
            self._blocks = Reducer(self._ufunc, self._ufunc.reduceat(self._values, starts))
        first, last = -(-lo // _BLOCK), hi // _BLOCK
        long = first < last
        result = np.empty((len(lo), *self._values.shape[1:]), self._values.dtype)
        result[~long] = self._one_by_one(lo[~long], hi[~long])
        whole = self._blocks.reduce(first[long], last[long])
        for begin, end in ((lo[long], first[long] * _BLOCK), (last[long] * _BLOCK, hi[long])):
            some = begin < end
            whole[some] = self._ufunc(whole[some], self._one_by_one(begin[some], end[some]))
        result[long] = whole
        return result


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
    reducers : callable
        Returns what reduces ranges of each column, for a statistic of which they merge by
        themselves.
    """

    def __init__(
        self,
        plan: Plan,
        events: EventFrame,
        order: Int64,
        ranges: Ranges,
        reducers: Callable[[Plan], Mapping[str, Reducer]],
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
        self._reducers: Mapping[str, Reducer] = {}
        self._levels: list[int] = []
        if self._statistic.columnwise is not None:
            self._reducers = reducers(plan)
            self.costs = np.minimum(sizes, 1) + ranges.end - ranges.doubt
        elif self._statistic.fixed_size and _is_much(sizes, len(order)):
            self._rows = self._grown(self._lifted(order))
            self.costs = np.minimum(sizes, 2 * len(self._levels)) + ranges.end - ranges.doubt

    def rows(self, part: slice) -> tuple[Int64, Array]:
        """Return the query of each row, counted from the part's first, and the rows."""
        lo, hi = self._lo[part], self._hi[part]
        if self._reducers:
            queries = (lo < hi).nonzero()[0]
            merged = np.zeros(len(queries), self._plan.row_type)
            for name, reducer in self._reducers.items():
                merged[name] = reducer.reduce(lo[queries], hi[queries])
            return queries, merged
        if self._rows is None:
            queries, index = find_ranges(lo, hi)
            return queries, self._lifted(self._order[index])
        queries, nodes = self._nodes(lo, hi)
        return queries, self._rows[nodes]

    def _lifted(self, index: Int64) -> Array:
        names = [*self._plan.fields]
        columns = {name: self._events.columns[name].take(index) for name in names}
        time, tie = self._events.time[index], self._events.tie[index]
        return lift(self._plan, EventFrame(time, tie, time, columns), time)

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


def _only(values: Int64) -> int | None:
    """Return the number that all values are, if there is one."""
    if not len(values) or (values != values[0]).any():
        return None
    return int(values[0])


def _is_much(sizes: Int64, values: int) -> bool:
    return int(sizes.sum()) > _PER_EVENT * (values + len(sizes))


def find_ranges(lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
    """Return the query and the place of every event in the ranges ``[lo, hi)``."""
    index, offsets = expand(lo, hi)
    return np.repeat(np.arange(len(lo)), np.diff(offsets)), index
