"""sum and mean.

``sum = Σx``; ``mean = Σx / n``, and the state keeps both parts. Merging adds.

Sums of integers (and of booleans, where True is 1) are exact: the state is ``Σ(x >> 32)`` and
``Σ(x & 0xffffffff)``, which no realistic number of int64 values overflows. A total beyond int64
reads as the nearest int64: one absurd event must not stop a platform. Floats add in float64 in
units of 2⁶⁴, within ``1e-9 · Σ|x|`` of the exact sum (sizes below 1e-290 are beneath notice); a
total beyond float64 reads as its largest number. The mean of vectors is that of each of their
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.definitions.specs import FeatureSpec

_LOW = 0xFFFF_FFFF
_INT = np.iinfo(np.int64)
_SMALLEST, _LARGEST = int(_INT.min), int(_INT.max)
_SCALE = 2.0**-64
_LIMIT = float(np.finfo(np.float64).max) * _SCALE


class Sum(Statistic):
    """Sum of a field; 0 in an empty window, which is a value, not a missing one."""

    @property
    def _floats(self) -> bool:
        return self.dtype in ("float", "vector")

    def columns(self) -> list[StateColumn]:
        """``sum`` for floats; ``high`` and ``low`` for integers and booleans."""
        return [self.values("sum")] if self._floats else [("high", "<i8"), ("low", "<i8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value is its own sum."""
        if self._floats:
            rows["sum"] = shrink(events.field)
        else:
            values = events.field.astype(np.int64, copy=False)
            rows["high"] = values >> 32
            rows["low"] = values & _LOW

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Add."""
        if self._floats:
            merged["sum"] = np.add.reduceat(rows["sum"], starts)
        else:
            offsets = np.append(starts, len(rows))
            merged["high"], merged["low"] = _add_integers(rows, offsets)

    @property
    def columnwise(self) -> Mapping[str, np.ufunc]:
        """Every part adds; high and low parts need no carry before they are finished."""
        return {column[0]: np.add for column in self.columns()}

    @property
    def loop(self) -> str | None:
        """Totals, but not of vectors."""
        return {"vector": None, "float": "total_float"}.get(self.dtype, "total")

    @property
    def merges(self) -> Sequence[str] | None:
        """Parts add, and what is beyond the low part goes into the high one."""
        if self._floats:
            return None if self.dtype == "vector" else ["add_float"]
        return ["add", "add_low"]

    def finish(self, window: Window) -> Column:
        """Return int64 or float64 totals, always present."""
        if self._floats:
            totals = reduce_segments(np.add, window.rows["sum"], window.offsets, 0.0)
            return Column(restore(totals), window.everywhere)
        high, low = _add_integers(window.rows, window.offsets)
        total = (high << 32) | low
        beyond = (high < -(2**31)) | (high >= 2**31)
        if beyond.any():
            total = np.where(beyond, np.where(high < 0, _INT.min, _INT.max), total)
        return Column(total, window.everywhere)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the total of one key."""
        if self._floats:
            return restore_one(sum(columns[1]))
        total = (sum(columns[1]) << 32) + sum(columns[2])
        if _SMALLEST <= total <= _LARGEST:
            return total
        return _LARGEST if total > 0 else _SMALLEST


class Mean(Sum):
    """Mean of a field, as a float or a vector; missing in an empty window."""

    def columns(self) -> list[StateColumn]:
        """Those of the sum, and ``n``."""
        return [*super().columns(), ("n", "<i8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value counts 1."""
        super().lift(rows, events)
        rows["n"] = 1

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Add both parts."""
        super().reduce(rows, starts, merged)
        merged["n"] = np.add.reduceat(rows["n"], starts)

    @property
    def loop(self) -> str | None:
        """Means, but not of vectors."""
        return {"vector": None, "float": "mean_float"}.get(self.dtype, "mean")

    @property
    def merges(self) -> Sequence[str] | None:
        """As of the sum, and counts add."""
        of_sum = super().merges
        return None if of_sum is None else [*of_sum, "add"]

    def finish(self, window: Window) -> Column:
        """Return float64 means; missing where nothing was counted."""
        rows, offsets, filled = window.rows, window.offsets, window.filled
        if self._floats:
            totals = reduce_segments(np.add, rows["sum"], offsets, 0.0)
        else:
            high, low = _add_integers(rows, offsets)
            totals = high * 2.0**32 + low
        means = np.full(totals.shape, np.nan)
        counts = reduce_segments(np.add, rows["n"], offsets, 0)[filled]
        means[filled] = (totals[filled].T / counts).T
        return Column(restore(means) if self._floats else means, filled)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the mean of one key."""
        n = sum(columns[-1])
        if not n:
            return None
        if self._floats:
            return restore_one(sum(columns[1]) / n)
        return float((sum(columns[1]) << 32) + sum(columns[2])) / n


def _add_integers(rows: Array, offsets: Int64) -> tuple[Int64, Int64]:
    """Return high and low parts of each segment's total; low is below 2³² again."""
    low = reduce_segments(np.add, rows["low"], offsets, 0)
    high = reduce_segments(np.add, rows["high"], offsets, 0) + (low >> 32)
    return high, low & _LOW


def shrink(values: Array | float) -> Array | float:
    """Return floats in the unit of the states, 2⁶⁴, in which no realistic sum overflows."""
    return values * _SCALE


def restore(totals: Array) -> Array:
    """Return floats from the unit of the states; beyond float64 the largest number.

    Examples
    --------
    >>> restore(np.array([1.0, -1e300])).tolist()
    [1.8446744073709552e+19, -1.7976931348623157e+308]
    """
    return np.asarray(np.clip(totals, -_LIMIT, _LIMIT) / _SCALE)


def restore_one(total: float) -> float:
    """Return one float as ``restore`` does."""
    if -_LIMIT <= total <= _LIMIT:
        return total / _SCALE
    return math.copysign(_LIMIT, total) / _SCALE
