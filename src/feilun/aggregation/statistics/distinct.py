"""distinct: how many different values.

``state = the 512 smallest hashes`` of the values of a tile (a bottom-k sketch); merging takes the
union, and again the smallest. A tile with fewer has all of its values; a *full* one has what lies
below its largest hash ``θ``, which is a fair sample. A window counts the different hashes below
the smallest θ of its full tiles, and divides by the share of all hashes that lie there:

``distinct = |{h < θ}| / (θ / 2⁶⁴)``, and without a full tile the number of hashes, exactly.

The estimate has no bias and a standard error of at most ``1 / √510``: 4.4 % (less where the tiles
have different values, for each brings its own sample). The same rows serve both cases, and with
a row for each register a HyperLogLog of this error would have as many.

Sources: Z. Bar-Yossef, T. S. Jayram, R. Kumar, D. Sivakumar, L. Trevisan, "Counting Distinct
Elements in a Data Stream", RANDOM 2002; A. Dasgupta, K. Lang, L. Rhodes, J. Thaler, "A Framework
for Estimating Stream Expression Cardinalities", ICDT 2016, for unions under θ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from feilun.aggregation.frames import Array, Bool, Column, Int64, UInt64
from feilun.aggregation.segments import begins, boundaries, expand
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.aggregation.statistics.hashing import hash_values
from feilun.definitions.specs import FeatureSpec


class Distinct(Statistic):
    """Number of different values of a field; 0 in an empty window, which is a value."""

    fixed_size = False
    shares_rows = False
    identity = ("time", "hash")

    kept: ClassVar[int] = 512
    """The most hashes a tile; with fewer it is exact."""

    def columns(self) -> list[StateColumn]:
        """``hash``."""
        return [("hash", "<u8")]

    def lift(self, rows: Array, events: Events) -> None:
        """One value is one hash."""
        rows["hash"] = hash_values(events.field)

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Keep each hash once, and the smallest of each tile."""
        codes, rows = super().compact(codes, rows)
        starts = boundaries(codes, rows["time"])
        ends = np.append(starts[1:], len(rows))
        if not (ends - starts > self.kept).any():
            return codes, rows
        smallest, _ = expand(starts, np.minimum(ends, starts + self.kept))
        return codes[smallest], rows[smallest]

    def reduce(self, _rows: Array, _starts: Int64, _merged: Array) -> None:
        """Equal hashes are one."""

    def finish(self, window: Window) -> Column:
        """Return int64 counts, always present."""
        sizes = np.diff(window.offsets)
        segments, hashes = np.repeat(np.arange(len(sizes)), sizes), window.rows["hash"]
        share = np.ones(len(sizes))
        if len(hashes) and sizes.max() >= self.kept:
            segments, rows = self.tiles(window)
            full, theta = self._thetas(segments, rows, len(sizes))
            share[full] = theta[full] / 2.0**64
            below = ~full[segments] | (rows["hash"] < theta[segments])
            segments, hashes = segments[below], rows["hash"][below]
        order = np.lexsort((hashes, segments))
        segments, hashes = segments[order], hashes[order]
        found = np.bincount(segments[begins(segments, hashes)], minlength=len(sizes))
        return Column(np.rint(found / share).astype(np.int64), window.everywhere)

    def finish_one(
        self, columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the count of one key, where no tile can be full."""
        hashes = columns[1]
        return len(set(hashes)) if len(hashes) < self.kept else NotImplemented

    def _thetas(self, segments: Int64, rows: Array, size: int) -> tuple[Bool, UInt64]:
        """Return which segments have a full tile, and the smallest θ of each."""
        starts = boundaries(segments, rows["time"])
        ends = np.append(starts[1:], len(rows))
        last = ends[ends - starts >= self.kept] - 1
        theta = np.full(size, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(theta, segments[last], rows["hash"][last])
        full = np.zeros(size, np.bool_)
        full[segments[last]] = True
        return full, theta
