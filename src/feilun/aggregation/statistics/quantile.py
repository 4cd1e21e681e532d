"""quantile: the value below which a given part of the values lies.

``state = how often each value came, rounded to seven significant bits``, one row a rounded value
and tile; merging adds. So an octave (from 64 to 128, from 1 to 2) has 64 steps, and a quantile is
within 1/128 of the exact one, below 1 %; integers up to 128 are exact. All quantiles of a field
read the same tiles.

The quantile ``q`` of n values is the one at place ``⌊q · (n − 1)⌋`` in their order, from 0: always
a value that came, the lower where two are equally near (NumPy's ``method="lower"``).

Sizes below 2⁻³⁰ (about 1e-9) count as 0 and sizes above 2⁶⁴ as 2⁶⁴, so that a tile has at most
12,035 rows; values over three decades have 640.

Sources: C. Masson, J. E. Rim, H. K. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", VLDB 2019, for the error and the merging; the steps are those of G.
Tene's HdrHistogram, which need no logarithm: they are the same to the bit on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.definitions.specs import FeatureSpec

_DROPPED_BITS = 46
"""Of the 52 bits behind the leading one six are kept."""
_SMALLEST = 2.0**-30
_LARGEST = 2.0**64


class Quantile(Statistic):
    """Quantile of a field of numbers or booleans, as a float; missing in an empty window."""

    fixed_size = False
    shares_rows = False
    identity = ("time", "value")

    def columns(self) -> list[StateColumn]:
        """``n`` and ``value``."""
        return [("n", "<i8"), ("value", "<f8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One rounded value came once."""
        rows["n"] = 1
        rows["value"] = round_to_steps(events.field)

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Add the counts of the same value."""
        merged["n"] = np.add.reduceat(rows["n"], starts)

    def finish(self, window: Window) -> Column:
        """Return float64 quantiles; missing where there is no value."""
        sizes, filled = np.diff(window.offsets), window.filled
        segments = np.repeat(np.arange(len(sizes)), sizes)
        rows = window.rows[np.lexsort((window.rows["value"], segments))]
        through = np.append(0, np.cumsum(rows["n"]))
        before, total = through[window.offsets[:-1]], np.diff(through[window.offsets])
        place = before + np.floor(window.feature.quantile * (total - 1)).astype(np.int64)
        quantiles = np.full(len(sizes), np.nan)
        at = np.searchsorted(through, place[filled], side="right") - 1
        quantiles[filled] = rows["value"][at]
        return Column(quantiles, filled)

    def finish_one(
        self, columns: Sequence[list[Any]], feature: FeatureSpec, _as_of: int, /
    ) -> float | None:
        """Return the quantile of one key."""
        _, counts, values = columns
        if not values:
            return None
        rows = sorted(zip(values, counts, strict=True))
        through = list(accumulate(n for _, n in rows))
        value: float = rows[bisect_right(through, int(feature.quantile * (through[-1] - 1)))][0]
        return value


def round_to_steps(values: Array) -> Array:
    """Return numbers as floats of seven significant bits, the larger of two as near.

    Examples
    --------
    >>> round_to_steps(np.array([0.1, -129.0, 128.0, 1e-10, 1e300])).tolist()
    [0.099609375, -130.0, 128.0, 0.0, 1.8446744073709552e+19]
    """
    numbers = values.astype(np.float64)
    sizes = np.minimum(np.abs(numbers), _LARGEST)
    sizes[sizes < _SMALLEST] = 0.0
    bits = sizes.view(np.int64) + (1 << (_DROPPED_BITS - 1))
    rounded = (bits >> _DROPPED_BITS << _DROPPED_BITS).view(np.float64)
    return np.copysign(rounded, numbers) + 0.0
