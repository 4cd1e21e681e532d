"""first, last, the last n, and the time since the last.

Events are ordered by ``(time, tie)``, then by value, which is a total order: nothing depends on
the order of arrival. ``first`` keeps the first event of each tile. The others keep the newest n
events themselves: a read is later than every event, so the newest n of its window are among the
newest n of all, and no tiles are needed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.segments import newest
from feilun.aggregation.statistics.base import Events, Statistic, Window, pick, rank
from feilun.clock import SECOND


class First(Statistic):
    """Value of the oldest event in the window; missing if there is none."""

    def columns(self) -> list[tuple[str, str]]:
        """``at`` (its own time), ``tie`` and ``value``."""
        return [("at", "<i8"), ("tie", "<u8"), ("value", self.value_type)]

    def lift(self, rows: Array, events: Events) -> None:
        """One event is the first."""
        rows["at"] = events.time
        rows["tie"] = events.tie
        rows["value"] = events.field

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Own time, then tie, then value."""
        return rank(rows["value"]), rows["tie"], rows["at"]

    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Keep the first row of each run, the oldest as they are sorted."""
        kept: Array = rows[starts]
        return kept

    def narrow(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Only the first counts."""
        return lo, np.minimum(hi, lo + 1)

    def finish(self, window: Window) -> Column:
        """Return the oldest values."""
        oldest = pick(window.rows["value"], window.offsets[:-1], window.filled)
        return Column(oldest, window.filled)


class Last(Statistic):
    """Value of the newest event, or the values of the newest n as a list, newest first.

    Missing if there is no event.
    """

    keeps_events = True
    fixed_size = False

    def columns(self) -> list[tuple[str, str]]:
        """``tie`` and ``value``."""
        return [("tie", "<u8"), ("value", self.value_type)]

    def lift(self, rows: Array, events: Events) -> None:
        """One event is an entry."""
        rows["tie"] = events.tie
        rows["value"] = events.field

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Tie, then value."""
        return rank(rows["value"]), rows["tie"]

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Keep the newest n of each key."""
        kept = newest(codes, self.n)
        return codes[kept], rows[kept]

    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Keep the last row of each run, the newest as they are sorted."""
        kept: Array = rows[np.append(starts[1:], len(rows)) - 1]
        return kept

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


class SinceLast(Last):
    """Seconds since the newest event, as a float; missing if there is none."""

    def columns(self) -> list[tuple[str, str]]:
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
