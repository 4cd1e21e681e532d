"""min and max.

``state = x``; merging takes the smaller (larger). Negative zero counts as zero, so that equal
numbers cannot give different states. Missing in an empty window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.definitions.specs import FeatureSpec


class Min(Statistic):
    """Smallest value of a field of numbers or booleans, in the field's own type."""

    better: ClassVar[np.ufunc] = np.minimum
    names: ClassVar[tuple[str, str]] = ("least", "smaller")

    def columns(self) -> list[StateColumn]:
        """``value``."""
        return [self.values("value")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value is its own extreme."""
        rows["value"] = events.field + 0.0 if self.dtype == "float" else events.field

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Keep the extreme.

        Examples
        --------
        >>> rows = np.array([(0, 2.5), (0, -1.0)], Min("float").row_type)
        >>> Min("float").merged(rows, np.array([0])).tolist()
        [(0, -1.0)]
        """
        merged["value"] = self.better.reduceat(rows["value"], starts)

    @property
    def columnwise(self) -> Mapping[str, np.ufunc]:
        """The extremes."""
        return {"value": self.better}

    @property
    def loop(self) -> str | None:
        """The extreme of numbers."""
        return self._named(self.names[0])

    @property
    def merges(self) -> Sequence[str] | None:
        """The extreme of numbers."""
        name = self._named(self.names[1])
        return None if name is None else [name]

    def _named(self, name: str) -> str | None:
        return {"int": name, "float": f"{name}_float"}.get(self.dtype)

    def finish(self, window: Window) -> Column:
        """Return the extremes; missing where there is none."""
        empty = np.nan if self.dtype == "float" else 0
        extremes = reduce_segments(self.better, window.rows["value"], window.offsets, empty)
        return Column(extremes, window.filled)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the extreme of one key."""
        values = columns[1]
        return min(values) if values else None


class Max(Min):
    """Largest value of a field of numbers or booleans, in the field's own type."""

    better = np.maximum
    names = ("most", "larger")

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the extreme of one key."""
        values = columns[1]
        return max(values) if values else None
