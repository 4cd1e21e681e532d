"""sum and mean.

``sum = Σx``; ``mean = Σx / n``, and the state keeps both parts. Merging adds.

Sums of integers (and of booleans, where True is 1) are exact: the state is ``Σ(x >> 32)`` and
``Σ(x & 0xffffffff)``, which no realistic number of int64 values overflows. A total beyond int64
reads as the nearest int64: one absurd event must not stop a platform. Floats add in float64 in
units of 2⁶⁴, within ``1e-9 · Σ|x|`` of the exact sum (sizes below 1e-290 are beneath notice); a
total beyond float64 reads as its largest number.
"""

from __future__ import annotations

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import Events, Statistic, Window

_LOW = 0xFFFF_FFFF
_INT = np.iinfo(np.int64)
_SCALE = 2.0**-64
_LIMIT = float(np.finfo(np.float64).max) * _SCALE


class Sum(Statistic):
    """Sum of a field; 0 in an empty window, which is a value, not a missing one."""

    def columns(self) -> list[tuple[str, str]]:
        """``sum`` for floats; ``high`` and ``low`` for integers and booleans."""
        return [("sum", "<f8")] if self.dtype == "float" else [("high", "<i8"), ("low", "<i8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value is its own sum."""
        if self.dtype == "float":
            rows["sum"] = shrink(events.field)
        else:
            values = events.field.astype(np.int64, copy=False)
            rows["high"] = values >> 32
            rows["low"] = values & _LOW

    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Add."""
        merged: Array = rows[starts]
        if self.dtype == "float":
            merged["sum"] = np.add.reduceat(rows["sum"], starts)
        else:
            offsets = np.append(starts, len(rows))
            merged["high"], merged["low"] = _add_integers(rows, offsets)
        return merged

    def finish(self, window: Window) -> Column:
        """Return int64 or float64 totals, always present."""
        if self.dtype == "float":
            totals = reduce_segments(np.add, window.rows["sum"], window.offsets, 0.0)
            return Column(restore(totals), window.everywhere)
        high, low = _add_integers(window.rows, window.offsets)
        total = (high << 32) | low
        beyond = (high < -(2**31)) | (high >= 2**31)
        if beyond.any():
            total = np.where(beyond, np.where(high < 0, _INT.min, _INT.max), total)
        return Column(total, window.everywhere)


class Mean(Sum):
    """Mean of a field, as a float; missing in an empty window."""

    def columns(self) -> list[tuple[str, str]]:
        """Those of the sum, and ``n``."""
        return [*super().columns(), ("n", "<i8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value counts 1."""
        super().lift(rows, events)
        rows["n"] = 1

    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Add both parts."""
        merged = super().reduce(rows, starts)
        merged["n"] = np.add.reduceat(rows["n"], starts)
        return merged

    def finish(self, window: Window) -> Column:
        """Return float64 means; missing where nothing was counted."""
        rows, offsets = window.rows, window.offsets
        if self.dtype == "float":
            totals = reduce_segments(np.add, rows["sum"], offsets, 0.0)
        else:
            high, low = _add_integers(rows, offsets)
            totals = high * 2.0**32 + low
        counts = reduce_segments(np.add, rows["n"], offsets, 0)
        means = np.full(len(totals), np.nan)
        np.divide(totals, counts, out=means, where=window.filled)
        return Column(restore(means) if self.dtype == "float" else means, window.filled)


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
