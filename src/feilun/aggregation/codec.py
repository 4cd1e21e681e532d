"""Tiles as bytes: one blob a key, with the tiles of every plan of a family.

A blob is little-endian words of 8 bytes. The first holds the version (one byte), the number of
plans (one byte) and the bytes of strings (six); the second makes the sum of all words zero, modulo
2**64; then comes a word a plan with the number of its rows; then the rows of each plan, one after
the other: ``time``, then the columns of its folds, a word for each number. A string has its length
in bytes there; the strings follow the rows in UTF-8, in their order, padded with zeros to whole
words.

Every read checks the sum. It finds any damage within one word, and other damage but for one case
in 2**64. NumPy adds up the words of all keys of a request in one pass; a CRC-32 of each blob would
take a sixth of that request's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from feilun.aggregation.family import Family
from feilun.aggregation.frames import Array, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.tiles import Tiles
from feilun.errors import CorruptData

VERSION = 2
WORD = 8
_MOST_ROWS = 1 << 40
_HEAD_WORDS = 2
_HEAD_MASK = 0xFFFF
_TEXT_SHIFT = 16
_WORDS = np.dtype("<i8")
_FEW_WORDS = 400


def encode(family: Family, keys: Sequence[bytes], tiles: Sequence[Tiles]) -> list[bytes]:
    """Return the blob of each key; ``tiles`` are one for each plan, and all of exactly ``keys``."""
    heads = np.zeros((len(keys), _HEAD_WORDS + len(tiles)), "<i8")
    heads[:, 0] = _head(family)
    sums = np.zeros(len(keys), np.int64)
    parts = []
    texts: list[list[bytes]] = []
    for place, of_plan in enumerate(tiles):
        heads[:, _HEAD_WORDS + place] = np.diff(of_plan.offsets)
        rows, strings = _stored(family, place, of_plan.rows)
        width = family.stored_types[place].itemsize
        raw, cuts = rows.tobytes(), of_plan.offsets * width
        sums += _sums(raw, cuts)
        parts.append(_cut(raw, cuts.tolist()))
        if strings is not None:
            bounds = list(accumulate(map(len, strings), initial=0))
            ends = [bounds[row] for row in of_plan.offsets.tolist()]
            texts.append(_cut(b"".join(strings), ends))
    if texts:
        joined = [b"".join(of_key) for of_key in zip(*texts, strict=True)]
        sizes = np.fromiter(map(len, joined), np.int64, len(joined))
        heads[:, 0] |= sizes << _TEXT_SHIFT
        padded = [text + bytes(-len(text) % WORD) for text in joined]
        cuts = np.fromiter(accumulate(map(len, padded), initial=0), np.int64, len(keys) + 1)
        sums += _sums(b"".join(padded), cuts)
        parts.append(padded)
    heads[:, 1] = -(heads.sum(axis=1) + sums)
    width = heads.shape[1] * WORD
    begun = _cut(heads.tobytes(), range(0, width * len(keys) + 1, width))
    return [b"".join(blob) for blob in zip(begun, *parts, strict=True)]


class StoredTiles:
    """Tiles as they are stored; those of a plan are decoded when they are asked for.

    Parameters
    ----------
    family : Family
        Whose tiles these are.
    keys : sequence of bytes
        Their keys.
    blobs : sequence of bytes or None
        The blob of each key; None is a key without tiles.

    Attributes
    ----------
    words : int64 array
        All blobs, one after the other.

    Raises
    ------
    CorruptData
        If a blob is of another version, fails its checksum, or its length does not fit.
    """

    def __init__(
        self, family: Family, keys: Sequence[bytes], blobs: Sequence[bytes | None]
    ) -> None:
        nothing = empty_blob(family)
        self.family = family
        self.keys = keys
        self._blobs = [nothing if blob is None else blob for blob in blobs]
        sizes = np.fromiter(map(len, self._blobs), np.int64, len(blobs))
        width = len(nothing)
        if (sizes < width).any():
            raise _corrupt("it is shorter than its head")
        if (sizes % WORD).any():
            raise _corrupt("its length is not of whole words")
        self.words = words = np.frombuffer(b"".join(self._blobs), _WORDS)
        self._firsts = begins = (np.cumsum(sizes) - sizes) // WORD
        heads = words[begins[:, None] + np.arange(width // WORD)]
        if (heads[:, 0] & _HEAD_MASK != _head(family)).any():
            raise _corrupt("it is of another version or of another family")
        if len(words) and np.add.reduceat(words, begins).any():
            raise _corrupt("it fails its checksum")
        self._counts = heads[:, _HEAD_WORDS:]
        if ((self._counts < 0) | (self._counts > _MOST_ROWS)).any():
            raise _corrupt("it says that it has an impossible number of rows")
        spans = self._counts * [kind.itemsize for kind in family.stored_types]
        self._ends = width + np.cumsum(spans, axis=1)
        self._begins = self._ends - spans
        self._text_sizes = heads[:, 0] >> _TEXT_SHIFT
        if (self._ends[:, -1] + -(-self._text_sizes // WORD) * WORD != sizes).any():
            raise _corrupt("its length does not fit the number of its rows")

    def tiles(self, place: int) -> Tiles:
        """Return the tiles of the plan at ``place``."""
        family, plan = self.family, self.family.plans[place]
        offsets = np.zeros(len(self.keys) + 1, np.int64)
        np.cumsum(self._counts[:, place], out=offsets[1:])
        raw = b"".join(self._slices(self._begins[:, place], self._ends[:, place]))
        stored = np.frombuffer(raw, family.stored_types[place])
        if stored.dtype == plan.row_type:
            return Tiles(self.keys, offsets, stored)
        rows = np.empty(len(stored), plan.row_type)
        for name in plan.row_type.names or ():
            text = plan.row_type[name].hasobject
            rows[name] = self._strings(place) if text else stored[name]
        return Tiles(self.keys, offsets, rows)

    def places(self, place: int) -> tuple[Int64, Int64]:
        """Return the word at which each row of a plan begins, and where each key's rows begin."""
        offsets = np.zeros(len(self.keys) + 1, np.int64)
        np.cumsum(self._counts[:, place], out=offsets[1:])
        width = self.family.widths[place]
        first = self._firsts + self._begins[:, place] // WORD - offsets[:-1] * width
        at = np.repeat(first, self._counts[:, place])
        at += np.arange(0, len(at) * width, width)
        return at, offsets

    def _slices(self, begins: Int64, ends: Int64) -> list[bytes]:
        return [
            blob[lo:hi]
            for blob, lo, hi in zip(self._blobs, begins.tolist(), ends.tolist(), strict=True)
        ]

    def _strings(self, place: int) -> list[str]:
        """Return the strings of the plan at ``place``: each key has those of all its plans."""
        begins = self._ends[:, -1].copy()
        ends, lengths = begins, np.zeros(0, np.int64)
        for earlier in range(place + 1):
            if self.family.text_columns[earlier] is not None:
                begins = ends
                lengths, totals = self._lengths(earlier)
                ends = begins + totals
        if (ends > self._ends[:, -1] + self._text_sizes).any():
            raise _corrupt("its strings are not as long as its rows say")
        text = b"".join(self._slices(begins, ends))
        try:
            return [
                str(text[lo:hi], "utf-8")
                for lo, hi in pairwise(accumulate(lengths.tolist(), initial=0))
            ]
        except UnicodeDecodeError as error:
            raise _corrupt("a string is not UTF-8") from error

    def _lengths(self, place: int) -> tuple[Int64, Int64]:
        """Return the length of each string of a plan, and their sum for each key."""
        raw = b"".join(self._slices(self._begins[:, place], self._ends[:, place]))
        stored = np.frombuffer(raw, self.family.stored_types[place])
        lengths: Int64 = np.asarray(stored[self.family.text_columns[place]], np.int64)
        if (lengths < 0).any() or (lengths > _MOST_ROWS).any():
            raise _corrupt("a string has an impossible length")
        upto = np.concatenate(([0], np.cumsum(lengths)))
        rows = np.concatenate(([0], np.cumsum(self._counts[:, place])))
        return lengths, np.diff(upto[rows])


def decode(family: Family, keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> list[Tiles]:
    """Return the tiles of ``keys``, in their order, for each plan; None gives a key without rows.

    Raises
    ------
    CorruptData
        If a blob is of another version, fails its checksum, or its length does not fit.
    """
    stored = StoredTiles(family, keys, blobs)
    return [stored.tiles(place) for place in range(len(family.plans))]


def words_of(family: Family, blob: bytes) -> tuple[list[int] | Lists, list[int]]:
    """Return the words of a blob, where the rows of each plan begin, and where the rows end.

    Few words come as a list, for they are added up in less time than an array takes to begin.

    Raises
    ------
    CorruptData
        If the blob is of another version, fails its checksum, or its length does not fit.
    """
    end = _HEAD_WORDS + len(family.plans)
    if len(blob) % WORD or len(blob) < WORD * end:
        raise _corrupt("its length is not of whole words")
    view = memoryview(blob).cast("q")
    words: list[int] | Lists
    if len(view) <= _FEW_WORDS:
        words = view.tolist()
        damaged = sum(words) % 2**64 != 0
    else:
        words = Lists(view)
        damaged = bool(np.add.reduce(np.frombuffer(blob, _WORDS)))
    heads = words[:end]
    if heads[0] & _HEAD_MASK != _head(family):
        raise _corrupt("it is of another version or of another family")
    if damaged:
        raise _corrupt("it fails its checksum")
    begins = [end]
    for rows, width in zip(heads[_HEAD_WORDS:], family.widths, strict=True):
        if rows < 0:
            raise _corrupt("it says that it has an impossible number of rows")
        end += rows * width
        begins.append(end)
    if end + -(-(heads[0] >> _TEXT_SHIFT) // WORD) != len(view):
        raise _corrupt("its length does not fit the number of its rows")
    return words, begins


class Lists:
    """Numbers in memory, of which each slice is a list."""

    def __init__(self, numbers: memoryview[Any]) -> None:
        self._numbers = numbers

    def __getitem__(self, part: slice) -> list[Any]:
        """Return the numbers of a slice."""
        return self._numbers[part].tolist()


def empty_blob(family: Family) -> bytes:
    """Return the blob of a key without rows."""
    head = _head(family)
    words = (head, 2**64 - head, *[0] * len(family.plans))
    return b"".join([word.to_bytes(WORD, "little") for word in words])


def _stored(family: Family, place: int, rows: Array) -> tuple[Array, list[bytes] | None]:
    """Return rows as they are stored, and their strings if they have any."""
    kind = family.stored_types[place]
    if rows.dtype == kind:
        return rows, None
    stored = np.empty(len(rows), kind)
    strings = None
    for name in kind.names or ():
        if rows.dtype[name].hasobject:
            strings = [text.encode() for text in rows[name].tolist()]
            stored[name] = np.fromiter(map(len, strings), np.int64, len(strings))
        else:
            stored[name] = rows[name]
    return stored, strings


def _sums(raw: bytes, cuts: Int64) -> Int64:
    """Return the sum of the words between each cut and the next, modulo 2**64."""
    return reduce_segments(np.add, np.frombuffer(raw, _WORDS), cuts // WORD, 0)


def _cut(raw: bytes, bounds: Iterable[int]) -> list[bytes]:
    return [raw[lo:hi] for lo, hi in pairwise(bounds)]


def _head(family: Family) -> int:
    return VERSION | len(family.plans) << 8


def _corrupt(why: str) -> CorruptData:
    return CorruptData(
        f"A stored blob of tiles cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )
