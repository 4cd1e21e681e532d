"""Tiles: the folded states of many keys, in one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feilun.aggregation.frames import Array, Int64
from feilun.errors import CorruptData


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """States by key and tile. Nothing in it is changed in place.

    Parameters
    ----------
    keys : sequence of bytes
        Encoded entity keys; from ``fold`` and ``merge`` distinct and in the order of their bytes.
    offsets : int64 array
        Key ``k`` has ``rows[offsets[k]:offsets[k + 1]]``; it may have none.
    rows : structured array
        One state a row, sorted within its key by ``time``: the start of the tile (0 with hop 0),
        or the time of the event where single events are kept. The other columns are the
        statistic's own.
    """

    keys: Sequence[bytes]
    offsets: Int64
    rows: Array

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, keys: Sequence[bytes], at: int) -> Tiles:
        """Return the tiles of ``keys``, which are a run of its own from place ``at`` on."""
        offsets = self.offsets[at : at + len(keys) + 1]
        return Tiles(keys, offsets - offsets[0], self.rows[offsets[0] : offsets[-1]])

    @property
    def time(self) -> Int64:
        """The time of each row."""
        time: Int64 = self.rows["time"]
        return time

    @property
    def codes(self) -> Int64:
        """The place of each row's key in ``keys``."""
        return np.arange(len(self.keys)).repeat(self.offsets[1:] - self.offsets[:-1])


def corrupt(why: str) -> CorruptData:
    """Return the error of stored tiles that cannot be read."""
    return CorruptData(
        f"A stored blob of tiles cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )


def as_words(rows: Array) -> Int64:
    """Return rows of numbers as the words that they are stored in: an array of rows × words."""
    return rows.view("<i8").reshape(len(rows), rows.itemsize // 8)
