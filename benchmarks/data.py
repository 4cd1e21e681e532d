"""Generated events: the same ones every time, on every machine, for every contender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 20_000 * DAY
"""Midnight UTC of the first generated day (2024-10-04)."""
CATEGORIES = 8
CHUNK = 1_000_000

Events = dict[str, Any]
"""Columns by name, as NumPy arrays of one length."""


@dataclass(frozen=True)
class Shape:
    """How many events, over which keys and how long.

    The rank of a key is ``keys · u²`` for a uniform ``u``: the density falls as the inverse root of
    the rank, so that few keys have thousands of events and every key has some. Each user keeps to
    two of the categories. Times ascend and amounts are whole cents: no contender drops an event as
    late, and all sums are exact.
    """

    events: int
    users: int = 100_000
    items: int = 10_000
    span: int = DAY
    seed: int = 7

    def chunks(self) -> Iterator[Events]:
        """Yield the events in order of time, at most ``CHUNK`` at once."""
        for first in range(0, self.events, CHUNK):
            count = min(CHUNK, self.events - first)
            random = np.random.default_rng((self.seed, first))
            user = _skewed(random, self.users, count)
            favourite = (user + (random.random(count) < 0.2)) % CATEGORIES
            begin = START + self.span * first // self.events
            end = START + self.span * (first + count) // self.events
            yield {
                "time": np.sort(random.integers(begin, end, count)),
                "user_id": user,
                "item_id": _skewed(random, self.items, count),
                "category": favourite,
                "amount": random.integers(1, 100_000, count),
            }

    def all(self) -> Events:
        """Return all events at once."""
        chunks = list(self.chunks())
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def save(events: Events, folder: Path) -> str:
    """Write one ``.npy`` file a column; return the folder, which workers of any kind can read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in events.items():
        np.save(folder / f"{name}.npy", values)
    return str(folder)


def load(folder: str) -> Events:
    """Read what `save` wrote."""
    return {path.stem: np.load(path) for path in sorted(Path(folder).glob("*.npy"))}


def _skewed(random: np.random.Generator, keys: int, count: int) -> Any:
    return (keys * random.random(count) ** 2).astype(np.int64)
