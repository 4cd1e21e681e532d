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
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from feilun.aggregation.compiled import loops
from feilun.aggregation.family import Family
from feilun.aggregation.frames import Array, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.aggregation.tiles import Tiles, as_words, corrupt

VERSION = 2
WORD = 8
_MOST_ROWS = 1 << 40
_HEAD_WORDS = 2
_HEAD_MASK = 0xFFFF
_TEXT_SHIFT = 16
_WORDS = np.dtype("<i8")
_FEW_WORDS = 400


def encode(family: Family, tiles: Sequence[Tiles]) -> list[bytes]:
    """Return the blob of each key; ``tiles`` are one for each plan, and all of the same keys."""
    parts: list[Array] = []
    texts: list[list[bytes]] = []
    for place, of_plan in enumerate(tiles):
        rows, strings = _stored(family, place, of_plan.rows)
        parts.append(rows)
        if strings is not None:
            bounds = list(accumulate(map(len, strings), initial=0))
            texts.append(_cut(b"".join(strings), [bounds[row] for row in of_plan.offsets.tolist()]))
    joined = [b"".join(of_key) for of_key in zip(*texts, strict=True)]
    offsets = [of_plan.offsets for of_plan in tiles]
    if loops is not None:
        words = [as_words(rows) for rows in parts]
        packed: list[bytes] = loops.pack(head_of(family), words, offsets, joined)
        return packed
    return _pack(head_of(family), parts, offsets, joined)


def decode(family: Family, keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> list[Tiles]:
    """Return the tiles of ``keys``, in their order, for each plan; None gives a key without rows.

    Raises
    ------
    CorruptData
        If a blob is of another version, fails its checksum, or its length does not fit.
    """
    nothing = empty_blob(family)
    filled = [nothing if blob is None else blob for blob in blobs]
    counts, parts = _unpack(family, filled) if loops is None else _blobs(family).unpack(filled)
    offsets = np.zeros((len(family.plans), len(keys) + 1), np.int64)
    np.cumsum(counts.T, axis=1, out=offsets[:, 1:])
    stored = [part.view(kind) for part, kind in zip(parts, family.stored_types, strict=True)]
    texts = _texts(family, filled, stored, offsets)
    found = []
    for place, plan in enumerate(family.plans):
        rows = stored[place]
        if rows.dtype != plan.row_type:
            rows = np.empty(len(stored[place]), plan.row_type)
            for name in plan.row_type.names or ():
                text = plan.row_type[name].hasobject
                rows[name] = texts[place] if text else stored[place][name]
        found.append(Tiles(keys, offsets[place], rows))
    return found


@lru_cache(maxsize=256)
def _blobs(family: Family) -> Any:
    """Return what takes a family's blobs apart."""
    assert loops is not None
    return loops.Blobs(head_of(family), family.widths)


def _unpack(family: Family, blobs: Sequence[bytes]) -> tuple[Int64, list[Int64]]:
    """Check blobs; return how many rows each key has, and the words of each plan's rows."""
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    width = (_HEAD_WORDS + len(family.plans)) * WORD
    if (sizes < width).any() or (sizes % WORD).any():
        raise corrupt("its length is not of whole words")
    words = np.frombuffer(b"".join(blobs), _WORDS)
    begins = (np.cumsum(sizes) - sizes) // WORD
    heads = words[begins[:, None] + np.arange(width // WORD)]
    if (heads[:, 0] & _HEAD_MASK != head_of(family)).any():
        raise corrupt("it is of another version or of another family")
    if len(words) and np.add.reduceat(words, begins).any():
        raise corrupt("it fails its checksum")
    counts = heads[:, _HEAD_WORDS:]
    if ((counts < 0) | (counts > _MOST_ROWS)).any():
        raise corrupt("it says that it has an impossible number of rows")
    spans = counts * np.multiply(family.widths, WORD)
    ends = width + np.cumsum(spans, axis=1)
    text_sizes = heads[:, 0] >> _TEXT_SHIFT
    if (ends[:, -1] + -(-text_sizes // WORD) * WORD != sizes).any():
        raise corrupt("its length does not fit the number of its rows")
    return counts, [
        np.frombuffer(b"".join(_slices(blobs, ends[:, at] - spans[:, at], ends[:, at])), _WORDS)
        for at in range(len(family.plans))
    ]


def _texts(
    family: Family, blobs: Sequence[bytes], stored: Sequence[Array], offsets: Int64
) -> dict[int, list[str]]:
    """Return the strings of each plan that has some; in a blob they follow the rows."""
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    rows = np.diff(offsets, axis=1).T @ np.array(family.widths, np.int64)
    begins = ends = (_HEAD_WORDS + len(family.plans) + rows) * WORD
    cuts: dict[int, tuple[Int64, Int64, Int64]] = {}
    for place, column in enumerate(family.text_columns):
        if column is not None:
            lengths: Int64 = np.asarray(stored[place][column], np.int64)
            if ((lengths < 0) | (lengths > _MOST_ROWS)).any():
                raise corrupt("a string has an impossible length")
            upto = np.concatenate(([0], np.cumsum(lengths)))[offsets[place]]
            cuts[place] = lengths, ends, ends + np.diff(upto)
            ends = cuts[place][2]
    if (begins + -(-(ends - begins) // WORD) * WORD != sizes).any():
        raise corrupt("its strings are not as long as its rows say")
    return {
        place: _decoded(b"".join(_slices(blobs, lo, hi)), lengths)
        for place, (lengths, lo, hi) in cuts.items()
    }


def _decoded(text: bytes, lengths: Int64) -> list[str]:
    bounds = accumulate(lengths.tolist(), initial=0)
    try:
        return [str(text[lo:hi], "utf-8") for lo, hi in pairwise(bounds)]
    except UnicodeDecodeError as error:
        raise corrupt("a string is not UTF-8") from error


def _slices(blobs: Sequence[bytes], begins: Int64, ends: Int64) -> list[bytes]:
    bounds = zip(blobs, begins.tolist(), ends.tolist(), strict=True)
    return [blob[lo:hi] for blob, lo, hi in bounds]


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
        raise corrupt("its length is not of whole words")
    view = memoryview(blob).cast("q")
    words: list[int] | Lists
    if len(view) <= _FEW_WORDS:
        words = view.tolist()
        damaged = sum(words) % 2**64 != 0
    else:
        words = Lists(view)
        damaged = bool(np.add.reduce(np.frombuffer(blob, _WORDS)))
    heads = words[:end]
    if heads[0] & _HEAD_MASK != head_of(family):
        raise corrupt("it is of another version or of another family")
    if damaged:
        raise corrupt("it fails its checksum")
    begins = [end]
    for rows, width in zip(heads[_HEAD_WORDS:], family.widths, strict=True):
        if rows < 0:
            raise corrupt("it says that it has an impossible number of rows")
        end += rows * width
        begins.append(end)
    if end + -(-(heads[0] >> _TEXT_SHIFT) // WORD) != len(view):
        raise corrupt("its length does not fit the number of its rows")
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
    head = head_of(family)
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


def _pack(
    head: int, parts: Sequence[Array], offsets: Sequence[Int64], texts: Sequence[bytes]
) -> list[bytes]:
    """Put blobs together: those of each key in ``offsets``, with its strings if there are any."""
    keys = len(offsets[0]) - 1
    heads = np.zeros((keys, _HEAD_WORDS + len(parts)), "<i8")
    heads[:, 0] = head
    sums = np.zeros(keys, np.int64)
    pieces = []
    for place, (rows, of_plan) in enumerate(zip(parts, offsets, strict=True)):
        heads[:, _HEAD_WORDS + place] = np.diff(of_plan)
        raw, cuts = rows.tobytes(), of_plan * rows.itemsize
        sums += _sums(raw, cuts)
        pieces.append(_cut(raw, cuts.tolist()))
    if texts:
        heads[:, 0] |= np.fromiter(map(len, texts), np.int64, keys) << _TEXT_SHIFT
        padded = [text + bytes(-len(text) % WORD) for text in texts]
        cuts = np.fromiter(accumulate(map(len, padded), initial=0), np.int64, keys + 1)
        sums += _sums(b"".join(padded), cuts)
        pieces.append(padded)
    heads[:, 1] = -(heads.sum(axis=1) + sums)
    width = heads.shape[1] * WORD
    begun = _cut(heads.tobytes(), range(0, width * keys + 1, width))
    return [b"".join(blob) for blob in zip(begun, *pieces, strict=True)]


def _sums(raw: bytes, cuts: Int64) -> Int64:
    """Return the sum of the words between each cut and the next, modulo 2**64."""
    return reduce_segments(np.add, np.frombuffer(raw, _WORDS), cuts // WORD, 0)


def _cut(raw: bytes, bounds: Iterable[int]) -> list[bytes]:
    return [raw[lo:hi] for lo, hi in pairwise(bounds)]


def head_of(family: Family) -> int:
    """Return what the first word of a family's blobs says, but for the length of strings."""
    return VERSION | len(family.plans) << 8
