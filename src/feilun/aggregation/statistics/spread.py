"""var and std: the variance and the standard deviation of a sample.

``var = Σ(x − mean)² / (n − 1)`` and ``std = √var``: the estimate for what the values are drawn
from, as SQL's ``VARIANCE`` and ``STDDEV``, pandas, Polars and Spark have it. Missing below two
values, of which it says nothing.

The state is ``n``, ``mean`` and ``norm = √Σ(x − mean)²``. Any number of states merge at once, by
the distances of their means from the common one:

``norm² = Σ (normᵢ² + nᵢ · (meanᵢ − mean)²)``

The root is kept, not the square, and squares are summed in units of the largest, so that nothing
overflows or vanishes; ``mean`` and ``norm`` are in units of 2⁶⁴, as in ``sums``. The standard
deviation is within ``1e-9 · √(Σx² / (n − 1))`` of the exact one (sizes below 1e-290 are beneath
notice), which a difference of sums of squares could not promise, and the variance is its square.
Equal values have exactly none. A variance beyond float64 reads as its largest number.

Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", COMPSTAT 1982; the scaling is that of BLAS's ``dnrm2``.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window, pick
from feilun.aggregation.statistics.sums import restore, restore_one, shrink
from feilun.definitions.specs import FeatureSpec

_LARGEST = sys.float_info.max
_ROOT_OF_LARGEST = math.sqrt(_LARGEST)


class Std(Statistic):
    """Standard deviation of a sample of numbers or booleans, as a float."""

    def columns(self) -> list[StateColumn]:
        """``n``, ``mean`` and ``norm``."""
        return [("n", "<i8"), ("mean", "<f8"), ("norm", "<f8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value is its own mean."""
        rows["n"] = 1
        rows["mean"] = shrink(events.field.astype(np.float64, copy=False))
        rows["norm"] = 0.0

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Merge all states of a run at once.

        Examples
        --------
        >>> std = Std("float")
        >>> rows = np.array([(0, 1, 4.0, 0.0), (0, 1, 8.0, 0.0)], std.row_type)
        >>> std.merged(rows, np.array([0])).tolist()
        [(0, 2, 6.0, 2.8284271247461903)]
        """
        offsets = np.append(starts, len(rows))
        merged["n"], merged["mean"], merged["norm"] = _merge(rows, offsets)

    def finish(self, window: Window) -> Column:
        """Return float64 deviations; missing below two values."""
        n, _, norm = _merge(window.rows, window.offsets)
        present = n > 1
        deviations = np.full(len(n), np.nan)
        deviations[present] = restore(norm[present] / np.sqrt(n[present] - 1))
        return Column(deviations, present)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> float | None:
        """Return the deviation of one key."""
        _, counts, means, norms = columns
        n = sum(counts)
        if n < 2:
            return None
        origin = means[0]
        shifts = [mean - origin for mean in means]
        step = sum(map(operator.mul, counts, shifts)) / n
        pairs = zip(counts, shifts, strict=True)
        distances = [math.sqrt(count) * (shift - step) for count, shift in pairs]
        return restore_one(math.hypot(*norms, *distances) / math.sqrt(n - 1))


class Var(Std):
    """Variance of a sample of numbers or booleans, as a float."""

    def finish(self, window: Window) -> Column:
        """Return float64 variances; missing below two values."""
        deviations = super().finish(window)
        variances = np.minimum(deviations.values, _ROOT_OF_LARGEST) ** 2
        variances[deviations.values > _ROOT_OF_LARGEST] = _LARGEST
        return Column(variances, deviations.present)

    def finish_one(
        self, columns: Sequence[list[Any]], feature: FeatureSpec, as_of: int, /
    ) -> float | None:
        """Return the variance of one key."""
        deviation = super().finish_one(columns, feature, as_of)
        if deviation is None:
            return None
        return deviation**2 if deviation <= _ROOT_OF_LARGEST else _LARGEST


def _merge(rows: Array, offsets: Int64) -> tuple[Int64, Array, Array]:
    """Return ``n``, ``mean`` and ``norm`` of each segment."""
    sizes = np.diff(offsets)
    n = reduce_segments(np.add, rows["n"], offsets, 0)
    # Distances are from the first mean, so that equal values have none at all.
    origin = pick(rows["mean"], offsets[:-1], sizes > 0)
    shift = rows["mean"] - np.repeat(origin, sizes)
    step = reduce_segments(np.add, rows["n"] * shift, offsets, 0.0) / np.maximum(n, 1)
    distance = np.sqrt(rows["n"]) * np.abs(shift - np.repeat(step, sizes))
    largest = np.maximum(rows["norm"], distance)
    unit = reduce_segments(np.maximum, largest, offsets, 0.0)
    each = np.repeat(np.where(unit > 0, unit, 1.0), sizes)
    squares = (rows["norm"] / each) ** 2 + (distance / each) ** 2
    return n, origin + step, unit * np.sqrt(reduce_segments(np.add, squares, offsets, 0.0))
