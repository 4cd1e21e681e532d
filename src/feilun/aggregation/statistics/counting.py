"""count: how many events, or how many of them have the field.

``state = n``; ``merge = n₁ + n₂``. An empty window counts 0, which is a value, not a missing one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.definitions.specs import FeatureSpec


class Count(Statistic):
    """Number of events."""

    def columns(self) -> list[StateColumn]:
        """``n``."""
        return [("n", "<i8")]

    def lift(self, rows: Array, _events: Events) -> None:
        """One event counts 1."""
        rows["n"] = 1

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Add.

        Examples
        --------
        >>> count = Count("int")
        >>> rows = np.array([(0, 2), (0, 3), (9, 1)], count.row_type)
        >>> count.merged(rows, np.array([0, 2])).tolist()
        [(0, 5), (9, 1)]
        """
        merged["n"] = np.add.reduceat(rows["n"], starts)

    @property
    def columnwise(self) -> Mapping[str, np.ufunc]:
        """Counts add."""
        return {"n": np.add}

    @property
    def loop(self) -> str:
        """Counts."""
        return "count"

    @property
    def merges(self) -> Sequence[str]:
        """Counts add."""
        return ["add"]

    def finish(self, window: Window) -> Column:
        """Return int64 counts, always present."""
        counts = reduce_segments(np.add, window.rows["n"], window.offsets, 0)
        return Column(counts, window.everywhere)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> int:
        """Return the count of one key."""
        return sum(columns[1])
