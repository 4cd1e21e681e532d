"""Damaged blobs of tiles: worked out anew from the log, while the others are folded on.

The engine finds one when it merges new tiles with it, or when it goes through the store because
nothing else is to do. It leaves the blob there, so that nobody takes it for a value, and folds the
log once more for its key alone, a part at a time. Where the two have met, the new blob takes the
damaged one's place. What was found is forgotten with the process, and found again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby, islice

import numpy as np

from feilun.aggregation import Family, Tiles
from feilun.aggregation.codec import empty_blob
from feilun.aggregation.family import ID_BYTES
from feilun.features import increments
from feilun.features.built import MENDED, encode_mended, mended
from feilun.features.increments import Increment
from feilun.ports.online_store import StoreSnapshot

MOST = 10_000
"""Keys that are worked out at a time: their tiles are in memory until then."""

logger = logging.getLogger(__name__)


class Mending:
    """The blobs of one store that were found damaged.

    Attributes
    ----------
    families : list of Family
        Those of the keys that are being worked out.
    offset : int
        Every record below it is in what was worked out.
    """

    def __init__(self) -> None:
        self.families: list[Family] = []
        self.offset = 0
        self._found: dict[tuple[Family, bytes], None] = {}
        self._keys: dict[Family, set[bytes]] = {}
        self._tiles = increments.nothing([])

    def note(self, family: Family, key: bytes) -> None:
        """Remember that the blob of a key is damaged; of too many the rest is found again."""
        if key not in self._keys.get(family, ()) and len(self._found) < MOST:
            self._found[family, key] = None

    def check(self, pairs: Iterable[tuple[bytes, bytes]], families: Collection[Family]) -> int:
        """Note which of these keys of the store have damaged blobs; return how many are news."""
        known = {family.id: family for family in families}
        if len(self._found) == MOST:  # what was found in dropped families takes nobody's place
            self._found = {each: None for each in self._found if each[0].id in known}
        before = len(self._found)
        for prefix, group in groupby(pairs, lambda pair: pair[0][:ID_BYTES]):
            if family := known.get(prefix):
                names, blobs = zip(*group, strict=True)
                for key in increments.damaged(family, [n[ID_BYTES:] for n in names], blobs):
                    self.note(family, key)
        return len(self._found) - before

    def begin(self, families: Collection[Family]) -> bool:
        """Take up what was found in ``families``; return whether there is anything to do."""
        if not all(family in families for family in self.families):
            self.finish()  # some were dropped meanwhile; what is left is found again
        if not self.families:
            chosen = list(islice((each for each in self._found if each[0] in families), MOST))
            for family, key in chosen:
                self._keys.setdefault(family, set()).add(key)
                del self._found[family, key]
            self.families = list(self._keys)
            self._tiles = increments.nothing(self.families)
            if chosen:
                family, key = chosen[0]
                logger.error(
                    "%d damaged blobs of tiles are made anew from the log, the first under %s",
                    len(chosen),
                    (family.id + key).hex(),
                )
        return bool(self.families)

    def add(self, folded: Increment, offset: int) -> None:
        """Take in what the records from ``self.offset`` to ``offset`` add."""
        parts = {
            family: tuple(
                None if tiles is None else _only(tiles, self._keys[family])
                for tiles in folded.families[family]
            )
            for family in self.families
        }
        self._tiles = increments.add(self._tiles, Increment(parts, folded.time))
        self.offset = offset

    def puts(self, snapshot: StoreSnapshot, now: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield what to store at ``self.offset``; ``now`` is the newest effective time."""
        count = mended(snapshot) + sum(map(len, self._keys.values()))
        yield MENDED, encode_mended(count)
        for family, keys in self._keys.items():
            yield from ((family.id + key, empty_blob(family)) for key in keys)
        yield from increments.blobs(self._tiles, now)

    def finish(self) -> None:
        """Forget what was worked out: it is stored."""
        self.families, self.offset = [], 0
        self._keys, self._tiles = {}, increments.nothing([])


def _only(tiles: Tiles, keys: Collection[bytes]) -> Tiles:
    """Return the tiles of those of its keys that are among ``keys``."""
    chosen = np.fromiter((key in keys for key in tiles.keys), np.bool_, len(tiles))
    counts = np.diff(tiles.offsets)
    offsets = np.concatenate(([0], np.cumsum(counts[chosen])))
    names = [key for key, wanted in zip(tiles.keys, chosen.tolist(), strict=True) if wanted]
    return Tiles(names, offsets, tiles.rows[chosen.repeat(counts)])
