"""top: the most frequent values.

``state = how often each value came``, one row a value and tile; merging adds. Values are ordered
by count, larger first, then by themselves, smaller first (False before True; strings by code
point), so equal counts have one order.

A tile is exact up to 512 values. One that has more keeps

- *registers*: 2 lines of 256 counts, each value counted in one register of every line, by its
  hash (a count-min sketch). The smallest register of a value is at least its count.
- *candidates*: the 512 values with the smallest *draw*, a number that the event's tie decides; a
  value has the smallest draw of all its events. So values are drawn without replacement, each
  in proportion to how often it came: one of ``s`` of all events is left out with a probability
  below ``(1 − s)^512``: 0.6 % for a share of 1 %, nothing for one of 5 %.

Sums and minima do not depend on the order of events, nor does whether there are more than 512
values; a sketch with evictions (space-saving) would depend on it. A window adds up its tiles:
counts from exact tiles and registers of the others. So the count of each value lies between two
bounds, equal where all tiles are exact; it is the upper one that ranks.

Sources: G. Cormode, S. Muthukrishnan, "An Improved Data Stream Summary: The Count-Min Sketch and
its Applications", J. Algorithms 2005; E. Cohen, H. Kaplan, "Summarizing Data using Bottom-k
Sketches", PODC 2007.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64, UInt64
from feilun.aggregation.segments import boundaries, expand
from feilun.aggregation.statistics.base import (
    Events,
    StateColumn,
    Statistic,
    Window,
    pick,
    rank,
)
from feilun.aggregation.statistics.hashing import hash_values, mix
from feilun.definitions.specs import FeatureSpec

_LINES = 2
_WIDTH = 256
_VALUE = 1 + _LINES * _WIDTH
"""Marks below it are numbers of registers, from 1; a value has the mark ``_VALUE + draw``."""


class Tally(NamedTuple):
    """Distinct values of segments, best first: each was there ``low`` to ``high`` times."""

    segments: Int64
    values: Array
    low: Int64
    high: Int64


class Top(Statistic):
    """Most frequent value, or a list of the n most frequent, of integers, strings or booleans.

    Missing if there is none.
    """

    fixed_size = False
    shares_rows = False

    kept: ClassVar[int] = 512
    """The values that a tile holds exactly, and the candidates of one that has more."""

    def columns(self) -> list[StateColumn]:
        """``n``, ``mark`` and ``value``."""
        return [("n", "<i8"), ("mark", "<i8"), self.values("value")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value came once."""
        rows["n"] = 1
        rows["mark"] = _VALUE + (mix(events.tie) >> np.uint64(2)).astype(np.int64)
        rows["value"] = events.field

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Put registers first, by number, then values, by themselves."""
        return rank(rows["value"]), np.minimum(rows["mark"], _VALUE)

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Add up each value and each register, and bound the size of each tile."""
        register = np.minimum(rows["mark"], _VALUE)
        starts = boundaries(codes, rows["time"], register, rows["value"])
        codes, rows = codes[starts], self.merged(rows, starts)
        starts = boundaries(codes, rows["time"])
        sizes = np.diff(np.append(starts, len(rows)))
        if not len(sizes) or sizes.max() <= self.kept:
            return codes, rows
        crowded = np.repeat(sizes > self.kept, sizes)
        dense = self._pour(codes[crowded], rows[crowded])
        codes = np.concatenate((codes[~crowded], dense[0]))
        rows = np.concatenate((rows[~crowded], dense[1]))
        order = np.lexsort((*self.tie_breaks(rows), rows["time"], codes))
        return codes[order], rows[order]

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Add the counts, and keep the smallest draw."""
        merged["n"] = np.add.reduceat(rows["n"], starts)
        merged["mark"] = np.minimum.reduceat(rows["mark"], starts)

    def finish(self, window: Window) -> Column:
        """Return the most frequent value, or a list of them."""
        segments, values, _, _ = self.tally(window)
        bounds = np.searchsorted(segments, np.arange(len(window.offsets)))
        if not window.feature.is_list:
            return Column(pick(values, bounds[:-1], window.filled), window.filled)
        lists = np.empty(len(bounds) - 1, object)
        for place, (lo, hi) in enumerate(pairwise(bounds.tolist())):
            lists[place] = values[lo : min(hi, lo + window.feature.n)].tolist()
        return Column(lists, window.filled)

    def finish_one(self, columns: Sequence[list[Any]], feature: FeatureSpec, _as_of: int, /) -> Any:
        """Return the most frequent values of one key, where all its tiles are exact."""
        _, counts, _, values = columns
        if len(values) > self.kept:
            return NotImplemented
        if not values:
            return None
        total: Counter[Any] = Counter()
        for value, n in zip(values, counts, strict=True):
            total[value] += n
        ranked = sorted(total, key=lambda value: (-total[value], value))
        return ranked[: feature.n] if feature.is_list else ranked[0]

    def tally(self, window: Window) -> Tally:
        """Return the values of each segment with the bounds of their counts.

        Beyond the cap those that no tile drew are not among them.
        """
        rows = window.rows
        sizes = np.diff(window.offsets)
        segments = np.repeat(np.arange(len(sizes)), sizes)
        if len(rows) and sizes.max() > self.kept:
            segments, rows = self.tiles(window)
        named = rows["mark"] >= _VALUE
        registers, rows = (segments[~named], rows[~named]), rows[named]
        segments = segments[named]
        ranks = rank(rows["value"])
        order = np.lexsort((ranks, segments))
        starts = boundaries(segments[order], ranks[order])
        distinct = order[starts]
        segments, values, ranks = segments[distinct], rows["value"][distinct], ranks[distinct]
        low: Int64 = np.add.reduceat(rows["n"][order], starts) if len(starts) else rows["n"]
        high = low + _estimates(*registers, segments, values)
        best = np.lexsort((ranks, -high, segments))
        return Tally(segments[best], values[best], low[best], high[best])

    def _pour(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Return the rows of tiles with too many values: registers, and candidates.

        The rows are sorted. A candidate has no count of its own any more.
        """
        named = rows["mark"] >= _VALUE
        of_values, values = codes[named], rows[named]
        hashes = hash_values(values["value"])
        parts = [rows[~named]]
        for line in range(_LINES):
            poured = values.copy()
            poured["mark"] = _register(hashes, line)
            poured["value"] = self._blank()
            parts.append(poured)
        registers = np.concatenate(parts)
        of_registers = np.concatenate((codes[~named], *[of_values] * _LINES))
        order = np.lexsort((registers["mark"], registers["time"], of_registers))
        of_registers, registers = of_registers[order], registers[order]
        starts = boundaries(of_registers, registers["time"], registers["mark"])
        of_registers, registers = of_registers[starts], self.merged(registers, starts)
        counted = registers["n"] > 0
        order = np.lexsort((rank(values["value"]), values["mark"], values["time"], of_values))
        of_values, values = of_values[order], values[order]
        starts = boundaries(of_values, values["time"])
        ends = np.append(starts[1:], len(values))
        drawn, _ = expand(starts, np.minimum(ends, starts + self.kept))
        candidates = values[drawn]
        candidates["n"] = 0
        return (
            np.concatenate((of_registers[counted], of_values[drawn])),
            np.concatenate((registers[counted], candidates)),
        )

    def _blank(self) -> Any:
        return "" if self.dtype == "str" else 0


def _register(hashes: UInt64, line: int) -> Int64:
    """Return the register of each value in a line."""
    bits = (hashes >> np.uint64(line * 32)) % np.uint64(_WIDTH)
    return 1 + line * _WIDTH + bits.astype(np.int64)


def _estimates(
    of_registers: Int64, registers: Array, segments: Int64, values: Array
) -> Int64 | int:
    """Return how often each value can have come in the tiles that have registers."""
    if not len(registers):
        return 0
    places = of_registers * _VALUE + registers["mark"]
    order = np.argsort(places, kind="stable")
    starts = boundaries(places[order])
    known, counts = places[order][starts], np.add.reduceat(registers["n"][order], starts)
    hashes, lines = hash_values(values), []
    for line in range(_LINES):
        wanted = segments * _VALUE + _register(hashes, line)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        lines.append(np.where(known[at] == wanted, counts[at], 0))
    smallest: Int64 = np.min(lines, axis=0)
    return smallest
