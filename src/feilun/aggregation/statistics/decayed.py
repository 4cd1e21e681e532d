"""decayed: a count or sum in which each event loses half its weight every half-life.

``value(t) = Σ x · 2^(−(t − time) / half_life)``, with ``x = 1`` without a field. The state is that
sum (in units of 2⁶⁴, as in ``sums``) at the time of the tile's newest event, ``at``, so that no
weight exceeds 1; merging brings both parts to the later ``at`` and adds. Exact within ``1e-9`` of
the sum of the terms' sizes (below 1e-290 they are beneath notice): a weight that float64 cannot
hold still counts, since whole half-lives are taken from a term's exponent.

Source: G. Cormode, V. Shkapenyuk, D. Srivastava, B. Xu, "Forward Decay: A Practical Time Decay
Model for Streaming Systems", ICDE 2009; here the landmark moves along with the newest event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import (
    Events,
    StateColumn,
    Statistic,
    Window,
    per_row,
)
from feilun.aggregation.statistics.sums import restore, restore_one, shrink
from feilun.definitions.specs import FeatureSpec

_VANISHED = -10_000
"""After so many half-lives nothing is left of any float64."""


class Decayed(Statistic):
    """Exponentially decayed count or sum, as a float; 0 where there was nothing."""

    def columns(self) -> list[StateColumn]:
        """``at`` and ``sum``."""
        return [("at", "<i8"), ("sum", "<f8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One event has its full weight at its own time."""
        rows["at"] = events.time
        rows["sum"] = shrink(1.0 if events.values is None else events.values)

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Bring every part to the newest time, and add.

        Examples
        --------
        >>> decayed = Decayed("float", half_life=10)
        >>> rows = np.array([(0, 5, 4.0), (0, 15, 1.0)], decayed.row_type)
        >>> decayed.merged(rows, np.array([0])).tolist()
        [(0, 15, 3.0)]
        """
        offsets = np.append(starts, len(rows))
        merged["at"] = np.maximum.reduceat(rows["at"], starts)
        merged["sum"] = self._sum_at(merged["at"], rows, offsets)

    def finish(self, window: Window) -> Column:
        """Return float64 sums as they are at ``as_of``, always present."""
        sums = self._sum_at(window.as_of, window.rows, window.offsets)
        return Column(restore(sums), window.everywhere)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, as_of: int, /
    ) -> float:
        """Return the sum of one key as it is at ``as_of``."""
        _, at, sums = columns
        total = 0.0
        for moment, part in zip(at, sums, strict=True):
            halvings = (moment - as_of) / self.half_life
            whole = math.floor(halvings)
            total += math.ldexp(part * math.exp2(halvings - whole), whole)
        return restore_one(total)

    def _sum_at(self, moment: int | Int64, rows: Array, offsets: Int64) -> Array:
        halvings = (rows["at"] - per_row(moment, offsets)) / self.half_life
        whole = np.floor(halvings)
        parts = rows["sum"] * np.exp2(halvings - whole)
        terms = np.ldexp(parts, np.maximum(whole, _VANISHED).astype(np.int32))
        return reduce_segments(np.add, terms, offsets, 0.0)
