"""Features of one family, read from blobs: of one key, or of many at once.

What is read here is what ``reading.read`` gives for the same tiles; laws say so. Windows of plain
numbers that add up are read by the compiled loops; ``single`` and ``reading`` read the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from feilun.aggregation.codec import WORD, decode, empty_blob, head_of
from feilun.aggregation.compiled import loops
from feilun.aggregation.family import Family
from feilun.aggregation.frames import Column
from feilun.aggregation.reading import earliest, read, span_of, with_default
from feilun.aggregation.single import KeyReader
from feilun.clock import DAY
from feilun.definitions.specs import FeatureSpec


class FamilyReader:
    """Reads a fixed list of features, all of one family, from its blobs.

    Parameters
    ----------
    family : Family
        Where they are stored.
    features : sequence of FeatureSpec
        What to read.
    """

    def __init__(self, family: Family, features: Sequence[FeatureSpec]) -> None:
        self._family = family
        self._empty = empty_blob(family)
        self._looped = [] if loops is None else [f for f in features if _columns_of(family, f)]
        self._loops = _loops_of(family, self._looped) if self._looped else None
        self._others = [feature for feature in features if feature not in self._looped]
        self._single = KeyReader(family, self._others) if self._others else None

    def one(self, blob: bytes | None, as_of: int, into: dict[str, Any]) -> bool:
        """Put the values of one key ``into`` a dictionary, by address.

        Parameters
        ----------
        blob : bytes or None
            What is stored of it.
        as_of : int
            Now, µs UTC.
        into : dict
            Gets an entry for each feature; None where it is missing.

        Returns
        -------
        bool
            Whether some are missing.

        Raises
        ------
        CorruptData
            If the blob cannot be read.
        """
        if blob is None:
            blob = self._empty
        missing = False if self._loops is None else self._loops.one(blob, as_of, into)
        if self._single is None:
            return missing
        for feature, value in zip(self._others, self._single.read(blob, as_of), strict=True):
            into[feature.address] = value
            missing = missing or value is None
        return missing

    def many(
        self, keys: Sequence[bytes], blobs: Sequence[bytes | None], as_of: int
    ) -> dict[str, Column]:
        """Return the values of many keys, one blob each, by address; defaults where one is missing.

        Raises
        ------
        CorruptData
            If a blob cannot be read.
        """
        columns: dict[str, Column] = {}
        if self._loops is not None:
            filled = [self._empty if blob is None else blob for blob in blobs]
            found = self._loops.many(filled, as_of)
            for feature, (values, present) in zip(self._looped, found, strict=True):
                columns[feature.address] = with_default(feature, Column(values, present))
        if self._others:
            tiles = decode(self._family, keys, blobs)
            for place, plan in enumerate(self._family.plans):
                asked = [f for f in self._others if self._family.place_of(f.fold)[0] == place]
                found = read(plan, tiles[place], asked, as_of)
                columns.update(zip((one.address for one in asked), found, strict=True))
        return columns


def _columns_of(family: Family, feature: FeatureSpec) -> list[tuple[int, str]]:
    """Return the words that a feature has in a row, and how they merge; none: loops cannot."""
    place, fold_place = family.place_of(feature.fold)
    plan = family.plans[place]
    statistic = plan.statistics[fold_place]
    if statistic.loop is None or statistic.merges is None or feature.ttl is not None:
        return []
    fields: Any = family.stored_types[place].fields
    own = (statistic.row_type.names or ())[1:]
    words = [fields[plan.name_of(fold_place, name)][1] // WORD for name in own]
    return list(zip(words, statistic.merges, strict=True))


def _loops_of(family: Family, features: Sequence[FeatureSpec]) -> Any:
    """Return what reads features that the compiled loops can read."""
    assert loops is not None
    spans: dict[object, int] = {}
    sizes: Counter[int] = Counter()
    windows: list[Any] = []
    asked = []
    for feature in features:
        place, fold_place = family.place_of(feature.fold)
        same = (place, span_of(feature))
        if same not in spans or sizes[spans[same]] == loops.MOST_OF_SPAN:
            spans[same] = len(windows)
            windows.append((place, *_window_of(feature)))
        sizes[spans[same]] += 1
        loop = family.plans[place].statistics[fold_place].loop
        asked.append((feature.address, spans[same], loop, _columns_of(family, feature)))
    return loops.Reader(head_of(family), family.widths, windows, asked)


def _window_of(feature: FeatureSpec) -> tuple[int, int, Callable[[int], Any] | None]:
    """Return the length of a window and its hop, or what says where it begins.

    Whatever begins at midnights begins at whole seconds, and is as long as whole seconds are: it
    is asked once a second.
    """
    window, hop = feature.window, feature.fold.hop
    if window is None and not feature.calendar:
        return 0, 0, None
    if window is None or feature.calendar or (hop and hop % DAY == 0):
        return 0, 0, partial(earliest, feature)
    return window, hop or 1, None
