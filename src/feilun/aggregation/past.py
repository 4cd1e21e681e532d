"""Values at moments of the past: ``read_past``, for training.

Tiles answer reads of now only: they hold what came later too, and do not know when each event
became known. So a past value is computed from events, in three steps for all queries together:

1. Events, one row each, are sorted by key and time. The events of a query's window are then one
   range of rows, found by binary search.
2. Of these only the ones below the query's ``known`` count. Up to the first event of the key that
   is not below it (by the running maximum) all are, and from the last that is on (by the running
   minimum from the end) none is. Events between, few if any, are looked at one by one.
3. A range is covered by nodes of a tree of pairwise merged rows, at most two a level, so a long
   window costs no more than a short one, and a sum of floats is rounded log₂ n times, not n.
   No difference of running totals is ever taken. Rows that do not merge into one (the values
   of ``top``, the newest n events) are taken as they are, only as many as can matter.

What is found is then finished by the same code as an online read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from feilun.aggregation.folding import lift, sorting, usable
from feilun.aggregation.frames import Column, EventFrame, Int64
from feilun.aggregation.keys import group_keys
from feilun.aggregation.reading import earliest, finish
from feilun.aggregation.segments import boundaries, expand
from feilun.aggregation.statistics import Window, statistic_of
from feilun.definitions.specs import FeatureSpec, FoldSpec

_ROWS_AT_ONCE = 1 << 21
"""Rows gathered before they are finished: bounds the memory, not the result."""


def read_past(
    feature: FeatureSpec,
    events: EventFrame,
    keys: Sequence[bytes],
    as_of: Int64,
    known: Int64,
) -> Column:
    """Return the value of each query: what an online read would have given there and then.

    Query q counts the events of ``keys[q]`` with time before ``as_of[q]`` and offset below
    ``known[q]``. Exact for every query: equal to the online read to the bit, but for floats that
    are added, which agree within ``1e-9 · Σ|x|``. Neighbouring equal queries cost one.

    Parameters
    ----------
    feature : FeatureSpec
        What to read.
    events : EventFrame
        All events of the feature's kind, in any order.
    keys : sequence of bytes
        Encoded key of each query.
    as_of, known : int64 array
        Time (µs UTC) and log offset of each query, both exclusive.
    """
    history = _History(feature.fold, events)
    codes = history.find(keys)
    distinct = boundaries(codes, as_of, known)
    repeats = np.diff(np.append(distinct, len(keys)))
    codes, as_of, known = codes[distinct], as_of[distinct], known[distinct]
    ranges = history.ranges(codes, earliest(feature, as_of), as_of, known)
    columns = []
    for part in _parts(history.cost(ranges)):
        index, offsets = history.cover(_Ranges(*(bound[part] for bound in ranges)), known[part])
        columns.append(finish(Window(feature, history.rows[index], offsets, as_of[part])))
    return Column(
        np.repeat(np.concatenate([column.values for column in columns]), repeats),
        np.repeat(np.concatenate([column.present for column in columns]), repeats),
    )


class _Ranges(NamedTuple):
    """For each query the rows ``[lo, hi)``, which count, and ``[doubt, end)``, which may."""

    lo: Int64
    hi: Int64
    doubt: Int64
    end: Int64


class _History:
    """Events of one fold, sorted by key and time, with what finds and covers ranges of them."""

    def __init__(self, spec: FoldSpec, events: EventFrame) -> None:
        self._statistic = statistic_of(spec)
        events = usable(spec, events)
        keys, codes = group_keys(spec.keys, events)
        rows = lift(spec, events, events.time)
        order = sorting(self._statistic, codes, rows)
        codes, times = codes[order], events.time[order]
        self.rows = rows[order]
        self._places = {key: place for place, key in enumerate(keys)}
        self._known = events.known[order]
        self._moments, self._by_time = _pack(codes, times)
        self._marks, by_known = _pack(codes, self._known)
        self._highest = np.maximum.accumulate(by_known)
        self._lowest = np.minimum.accumulate(by_known[::-1])[::-1]
        self._levels = self._grow() if self._statistic.fixed_size else None

    def find(self, keys: Sequence[bytes]) -> Int64:
        """Return the code of each key; -1 where no event has it."""
        places = self._places
        return np.fromiter((places.get(key, -1) for key in keys), np.int64, len(keys))

    def ranges(
        self, codes: Int64, start: int | Int64 | None, as_of: Int64, known: Int64
    ) -> _Ranges:
        """Return the rows of each query."""
        if start is None:
            lo = np.searchsorted(self._by_time, codes * len(self._moments))
        else:
            lo = _search(self._by_time, self._moments, codes, start)
        end = _search(self._by_time, self._moments, codes, as_of)
        end = np.minimum(end, _search(self._lowest, self._marks, codes, known))
        end = np.maximum(lo, end)
        doubt = np.clip(_search(self._highest, self._marks, codes, known), lo, end)
        return _Ranges(*self._statistic.narrow(lo, doubt), doubt, end)

    def cost(self, ranges: _Ranges) -> Int64:
        """Return an upper bound of the rows that cover each query."""
        sizes = ranges.hi - ranges.lo
        if self._levels is not None:
            sizes = np.minimum(sizes, 2 * len(self._levels))
        return sizes + ranges.end - ranges.doubt

    def cover(self, ranges: _Ranges, known: Int64) -> tuple[Int64, Int64]:
        """Return the rows that together are the state of each query, and their offsets."""
        find = _singles if self._levels is None else self._nodes
        queries, index = find(ranges.lo, ranges.hi)
        doubtful, rows = _singles(ranges.doubt, ranges.end)
        if len(rows):
            counts = self._known[rows] < known[doubtful]
            queries = np.concatenate((queries, doubtful[counts]))
            index = np.concatenate((index, rows[counts]))
        order = np.argsort(queries, kind="stable")
        return index[order], np.searchsorted(queries[order], np.arange(len(known) + 1))

    def _grow(self) -> list[int]:
        """Append to the rows each level of pairwise merged rows; return where levels begin."""
        levels, begins = [self.rows], [0]
        while len(levels[-1]) > 1:
            begins.append(begins[-1] + len(levels[-1]))
            pairs = np.arange(0, len(levels[-1]), 2)
            levels.append(self._statistic.reduce(levels[-1], pairs))
        self.rows = np.concatenate(levels)
        return begins

    def _nodes(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Cover the ranges by as few nodes of the tree as there are; pairs (query, row)."""
        queries, nodes = [], []
        active = np.flatnonzero(lo < hi)
        lo, hi = lo[active], hi[active]
        for begin in self._levels or ():
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


def _pack(codes: Int64, values: Int64) -> tuple[Int64, Int64]:
    """Return the distinct values, and one number a row that orders by code, then by value."""
    distinct, ranks = np.unique(values, return_inverse=True)
    return distinct, codes * len(distinct) + ranks


def _search(packed: Int64, distinct: Int64, codes: Int64, values: Int64 | int) -> Int64:
    """Return the first place at which a packed column is not below (code, value).

    A value above all has the number of the next code's first, which is at the same place.
    """
    return np.searchsorted(packed, codes * len(distinct) + np.searchsorted(distinct, values))


def _singles(lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
    index, offsets = expand(lo, hi)
    return np.repeat(np.arange(len(lo)), np.diff(offsets)), index


def _parts(costs: Int64) -> list[slice]:
    """Cut the queries where the rows to gather for them reach the bound."""
    cuts = boundaries(np.cumsum(costs) // _ROWS_AT_ONCE).tolist()
    return [slice(lo, hi) for lo, hi in pairwise([*cuts, len(costs)])] or [slice(0)]
