"""Where tiles and windows begin.

Hops shorter than a day count from 1970-01-01 UTC. Hops of whole days begin at midnight in the
project's time zone, on days counted from 1970-01-01, and are as long as those days are: 23 or 25
hours where clocks change. Where a change of clocks skips midnight, the day begins at the change;
where it repeats midnight, at the first.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from feilun.aggregation.frames import Int64
from feilun.clock import DAY, SECOND
from feilun.definitions.specs import FeatureSpec
from feilun.errors import ConfigError, InputError

_EPOCH = date(1970, 1, 1)
_YEAR = 31_556_952 * SECOND


@overload
def floor_hop(times: Int64, hop: int, timezone: str) -> Int64: ...
@overload
def floor_hop(times: int | Int64, hop: int, timezone: str) -> int | Int64: ...
def floor_hop(times: int | Int64, hop: int, timezone: str) -> int | Int64:
    """Return the start of the tile that each time is in; with ``hop`` 0 the time itself.

    Raises
    ------
    InputError
        If the hop is of whole days and a time is outside the years 2 to 9997.
    ConfigError
        If there is no such time zone.

    Examples
    --------
    >>> floor_hop(np.array([0, DAY]), DAY, "Asia/Shanghai") // 3_600_000_000
    array([-8, 16])
    """
    if hop == 0:
        return times
    if hop % DAY:
        return times - times % hop
    midnights, index, first_day = _days(times, hop, timezone)
    floored: int | Int64 = midnights[index - (index + first_day) % (hop // DAY)]
    return floored


def window_start(feature: FeatureSpec, as_of: int | Int64) -> int | Int64 | None:
    """Return where the feature's window begins when it is read at ``as_of``; None: all time.

    A sliding window W begins at ``floor_hop(as_of - W)``, a window of n calendar days at the
    midnight with which the day n - 1 days before that of ``as_of`` begins.
    """
    fold = feature.fold
    if feature.calendar:
        midnights, index, _ = _days(as_of, feature.calendar * DAY, fold.timezone)
        start: int | Int64 = midnights[index - (feature.calendar - 1)]
        return floor_hop(start, fold.hop, fold.timezone)
    if feature.window is None:
        return None
    return floor_hop(as_of - feature.window, fold.hop, fold.timezone)


def _days(times: int | Int64, reach: int, timezone: str) -> tuple[Any, Any, int]:
    """Return a table of midnights, the place in it of each time's day, and its first day.

    The table reaches at least ``reach`` µs further on both sides.
    """
    if not isinstance(times, np.ndarray):
        low = high = int(times)
    elif len(times):
        low, high = int(times.min()), int(times.max())
    else:
        low = high = 0
    first, last = 1969 + (low - reach) // _YEAR, 1971 + (high + reach) // _YEAR
    if first < 1 or last > 9998:
        raise InputError("A time lies outside the years 2 to 9997.", "Times are microseconds UTC.")
    midnights, plain, first_day = _midnights(first, last, timezone)
    if not isinstance(times, np.ndarray):  # arrays would cost several times as much
        return plain, bisect_right(plain, low) - 1, first_day
    return midnights, np.searchsorted(midnights, times, side="right") - 1, first_day


@lru_cache(maxsize=128)
def _midnights(first: int, last: int, timezone: str) -> tuple[Int64, list[int], int]:
    """Return the midnights of the years, as an array and as a list, and the number of the first."""
    starts = np.concatenate([_midnights_of(year, timezone) for year in range(first, last + 1)])
    return starts, starts.tolist(), (date(first, 1, 1) - _EPOCH).days


@lru_cache(maxsize=1024)
def _midnights_of(year: int, timezone: str) -> Int64:
    """Return when each local day of a year begins, in µs UTC."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"There is no time zone {timezone!r} on this machine.", "Install tzdata, or correct it."
        ) from error
    day, days = datetime(year, 1, 1, tzinfo=zone), (date(year + 1, 1, 1) - date(year, 1, 1)).days
    # Adding to a local time moves its calendar, not its clock: each sum is again a midnight.
    starts = [int((day + timedelta(n)).timestamp()) * SECOND for n in range(days)]
    return np.array(starts, np.int64)
