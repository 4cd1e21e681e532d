"""Windows by plain comparison and sums: what every contender's answers are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.data import DAY, HOUR, Events

WINDOWS = {
    "1h": (HOUR, HOUR // 12),
    "1d": (DAY, HOUR),
    "7d": (7 * DAY, HOUR),
    "30d": (30 * DAY, DAY),
}
"""Length and hop by name; the hops are Feilun's defaults, and days are UTC's."""

STATISTICS: Mapping[str, Callable[[Any], float | int | None]] = {
    "count": len,
    "sum": lambda amounts: int(amounts.sum()),
    "mean": lambda amounts: float(amounts.mean()) if len(amounts) else None,
    "min": lambda amounts: int(amounts.min()) if len(amounts) else None,
    "max": lambda amounts: int(amounts.max()) if len(amounts) else None,
}


def of_key(events: Events, key: Mapping[str, int]) -> Events:
    """Return the events of one key."""
    mine = np.ones(len(events["time"]), np.bool_)
    for name, value in key.items():
        mine &= events[name] == value
    return {name: values[mine] for name, values in events.items()}


def value(events: Events, statistic: str, window: str, as_of: int) -> float | int | None:
    """Return a statistic of the amounts in a window; None where there is nothing to tell of.

    A window begins at a whole hop and is half-open: ``[floor(as_of - length), as_of)``.
    """
    length, hop = WINDOWS[window]
    start = (as_of - length) // hop * hop
    inside = (events["time"] >= start) & (events["time"] < as_of)
    return STATISTICS[statistic](events["amount"][inside])
