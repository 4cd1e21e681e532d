"""top: the most frequent values.

``state = how often each value came``, exact, one row a value and tile; merging adds. Values are
ordered by count, larger first, then by themselves, smaller first (False before True; strings by
code point), so equal counts have one order.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import boundaries
from feilun.aggregation.statistics.base import Events, Statistic, Window, pick, rank


class Top(Statistic):
    """Most frequent value, or a list of the n most frequent, of integers, strings or booleans.

    Missing if there is none.
    """

    fixed_size = False
    identity = ("time", "value")

    def columns(self) -> list[tuple[str, str]]:
        """``n`` and ``value``."""
        return [("n", "<i8"), ("value", self.value_type)]

    def lift(self, rows: Array, events: Events) -> None:
        """One value came once."""
        rows["n"] = 1
        rows["value"] = events.field

    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Add the counts of the same value."""
        merged: Array = rows[starts]
        merged["n"] = np.add.reduceat(rows["n"], starts)
        return merged

    def finish(self, window: Window) -> Column:
        """Return the most frequent value, or a list of them."""
        codes, values = self._ranked(window)
        bounds = np.searchsorted(codes, np.arange(len(window.offsets)))
        if not window.feature.is_list:
            return Column(pick(values, bounds[:-1], window.filled), window.filled)
        lists = np.empty(len(bounds) - 1, object)
        for place, (lo, hi) in enumerate(pairwise(bounds.tolist())):
            lists[place] = values[lo : min(hi, lo + window.feature.n)].tolist()
        return Column(lists, window.filled)

    def _ranked(self, window: Window) -> tuple[Int64, Array]:
        """Return each segment's distinct values, best first, with the segment's number."""
        codes = np.repeat(np.arange(len(window.offsets) - 1), np.diff(window.offsets))
        if not len(codes):
            return codes, window.rows["value"]
        ranks = rank(window.rows["value"])
        order = np.lexsort((ranks, codes))
        starts = boundaries(codes[order], ranks[order])
        counts = np.add.reduceat(window.rows["n"][order], starts)
        distinct = order[starts]
        best = distinct[np.lexsort((ranks[distinct], -counts, codes[distinct]))]
        return codes[best], window.rows["value"][best]
