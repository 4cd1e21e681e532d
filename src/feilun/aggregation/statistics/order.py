"""first, last, the last n, and the time since the last.

Events are ordered by ``(time, tie)``, then by value, which is a total order: nothing depends on
the order of arrival. ``first`` keeps the first event of each tile. The others keep the newest n
events themselves: a read is later than every event, so the newest n of its window are among the
newest n of all, and no tiles are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import boundaries, newest
from feilun.aggregation.statistics.base import (
    Events,
    StateColumn,
    Statistic,
    Window,
    pick,
    rank,
    rank_vectors,
)
from feilun.clock import SECOND
from feilun.definitions.specs import DType, FeatureSpec


class First(Statistic):
    """Value of the oldest event in the window; missing if there is none."""

    def __init__(self, dtype: DType, n: int = 1, half_life: int = 0, dim: int = 0) -> None:
        super().__init__(dtype, n, half_life, dim)
        self.shares_rows = dtype != "str"

    def columns(self) -> list[StateColumn]:
        """``at`` (its own time), ``tie`` and ``value``."""
        return [("at", "<i8"), ("tie", "<u8"), self.values("value")]

    def lift(self, rows: Array, events: Events) -> None:
        """One event is the first."""
        rows["at"] = events.time
        rows["tie"] = events.tie
        rows["value"] = events.field

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Own time, then tie, then value."""
        return _rank(rows), rows["tie"], rows["at"]

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Keep the oldest row of each run.

        Examples
        --------
        >>> first = First("int")
        >>> rows = np.array([(0, 7, 1, 70), (0, 5, 2, 50), (0, 5, 1, 51)], first.row_type)
        >>> first.merged(rows, np.array([0])).tolist()
        [(0, 5, 1, 51)]
        """
        runs = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
        earliest = np.minimum.reduceat(rows["at"], starts)
        chosen = np.flatnonzero(rows["at"] == earliest[runs])
        if len(chosen) > len(starts):
            order = np.lexsort((_rank(rows[chosen]), rows["tie"][chosen], runs[chosen]))
            chosen = chosen[order]
            chosen = chosen[boundaries(runs[chosen])]
        for name in ("at", "tie", "value"):
            merged[name] = rows[name][chosen]

    def narrow(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Only the first counts."""
        return lo, np.minimum(hi, lo + 1)

    def finish(self, window: Window) -> Column:
        """Return the oldest values."""
        oldest = pick(window.rows["value"], window.offsets[:-1], window.filled)
        return Column(oldest, window.filled)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the oldest value of one key."""
        values = columns[3]
        return values[0] if values else None


class Last(Statistic):
    """Value of the newest event, or the values of the newest n as a list, newest first.

    Missing if there is no event.
    """

    keeps_events = True
    fixed_size = False
    shares_rows = False

    def columns(self) -> list[StateColumn]:
        """``tie`` and ``value``."""
        return [("tie", "<u8"), self.values("value")]

    def lift(self, rows: Array, events: Events) -> None:
        """One event is an entry."""
        rows["tie"] = events.tie
        rows["value"] = events.field

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Tie, then value."""
        return _rank(rows), rows["tie"]

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Keep the newest n of each key."""
        kept = newest(codes, self.n)
        return codes[kept], rows[kept]

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Keep the last row of each run, the newest as they are sorted."""
        merged[:] = rows[np.append(starts[1:], len(rows)) - 1]

    def narrow(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Only the newest n count."""
        return np.maximum(lo, hi - self.n), hi

    def finish(self, window: Window) -> Column:
        """Return the newest value, or a list of up to n of them."""
        offsets, values = window.offsets, window.rows["value"]
        if not window.feature.is_list:
            return Column(pick(values, offsets[1:] - 1, window.filled), window.filled)
        n = min(self.n, window.feature.n)
        entries = values.tolist()
        lists = np.empty(len(offsets) - 1, object)
        for place, (lo, hi) in enumerate(pairwise(offsets.tolist())):
            lists[place] = entries[max(lo, hi - n) : hi][::-1]
        return Column(lists, window.filled)

    def finish_one(self, columns: Sequence[list[Any]], feature: FeatureSpec, _as_of: int, /) -> Any:
        """Return the newest value of one key, or a list of them."""
        values = columns[2]
        if not values:
            return None
        if feature.is_list:
            return values[-min(self.n, feature.n) :][::-1]
        return values[-1]


class SinceLast(Last):
    """Seconds since the newest event, as a float; missing if there is none."""

    def columns(self) -> list[StateColumn]:
        """None: the time of the row is all."""
        return []

    def lift(self, _rows: Array, _events: Events) -> None:
        """Nothing to fill."""

    def tie_breaks(self, _rows: Array) -> tuple[Array, ...]:
        """Events of the same time are the same here."""
        return ()

    def finish(self, window: Window) -> Column:
        """Return float64 seconds."""
        newest_times = pick(window.rows["time"], window.offsets[1:] - 1, window.filled)
        age = (window.as_of - newest_times) / SECOND
        return Column(np.where(window.filled, age, np.nan), window.filled)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, as_of: int, /
    ) -> float | None:
        """Return the seconds of one key."""
        times = columns[0]
        return (as_of - times[-1]) / SECOND if times else None


def _rank(rows: Array) -> Array:
    """Return what orders events of one time and tie: their values, whatever they are."""
    values = rows["value"]
    return rank_vectors(values, rows["tie"]) if values.ndim > 1 else rank(values)
