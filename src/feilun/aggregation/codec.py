"""Tiles as bytes: one blob a key, for the online store.

A blob is one version byte, then records of fixed width, little-endian and without padding: the
columns of a row in their order. Where the values are strings, the version byte is followed by the
number of records (uint32), a record has the length of its string in bytes (uint32) in place of
the string, and the strings follow the records, in UTF-8, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import cast

import numpy as np

from feilun.aggregation.frames import Array
from feilun.aggregation.statistics import statistic_of
from feilun.aggregation.tiles import Tiles
from feilun.definitions.specs import FoldSpec
from feilun.errors import CorruptData

VERSION = 1
_HEAD = bytes([VERSION])
_first: Callable[[bytes], int] = itemgetter(0)
_all_but_first: Callable[[bytes], bytes] = itemgetter(slice(1, None))


def encode(spec: FoldSpec, tiles: Tiles) -> list[tuple[bytes, bytes]]:
    """Return each key with its blob, in the order of the keys."""
    row_type = statistic_of(spec).row_type
    if row_type.hasobject:
        return _encode_texts(tiles, row_type)
    raw = tiles.rows.tobytes()
    bounds = (tiles.offsets * row_type.itemsize).tolist()
    return [
        (key, _HEAD + raw[lo:hi])
        for key, (lo, hi) in zip(tiles.keys, pairwise(bounds), strict=True)
    ]


def decode(spec: FoldSpec, keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> Tiles:
    """Return the tiles of ``keys``, in their order; None (no blob) gives a key without rows.

    Raises
    ------
    CorruptData
        If a blob is of another version or its length does not fit.
    """
    row_type = statistic_of(spec).row_type
    complete = None not in blobs
    present = cast(Sequence[bytes], blobs) if complete else [b for b in blobs if b is not None]
    try:
        if not set(map(_first, present)) <= {VERSION}:
            raise _corrupt(spec, "its first byte is not a version that this program knows")
    except IndexError as error:
        raise _corrupt(spec, "it is empty") from error
    rows, counts = (_decode_texts if row_type.hasobject else _decode_numbers)(spec, present)
    offsets = np.zeros(len(keys) + 1, np.int64)
    if complete:
        offsets[1:] = counts
    else:
        offsets[1:][[blob is not None for blob in blobs]] = counts
    return Tiles(keys, np.cumsum(offsets, out=offsets), rows)


def _decode_numbers(spec: FoldSpec, blobs: Sequence[bytes]) -> tuple[Array, Array]:
    row_type = statistic_of(spec).row_type
    records = b"".join(map(_all_but_first, blobs))
    sizes = np.array(list(map(len, blobs)), np.int64) - 1
    counts = sizes // row_type.itemsize
    if (counts * row_type.itemsize != sizes).any():
        raise _corrupt(spec, f"its length is not of whole records of {row_type.itemsize} bytes")
    return np.frombuffer(records, row_type), counts


@lru_cache(maxsize=64)
def _stored_type(row_type: np.dtype[np.void]) -> np.dtype[np.void]:
    """Return the type of a stored record: with the length where a row has the string."""
    names = row_type.names or ()
    return np.dtype(
        [(name, "<u4" if row_type[name].hasobject else row_type[name]) for name in names]
    )


def _encode_texts(tiles: Tiles, row_type: np.dtype[np.void]) -> list[tuple[bytes, bytes]]:
    texts = [text.encode() for text in tiles.rows["value"].tolist()]
    records = np.empty(len(tiles.rows), _stored_type(row_type))
    for name in row_type.names or ():
        records[name] = [len(t) for t in texts] if name == "value" else tiles.rows[name]
    raw, width, bounds = records.tobytes(), records.dtype.itemsize, tiles.offsets.tolist()
    return [
        (
            key,
            b"".join(
                (
                    _HEAD,
                    (hi - lo).to_bytes(4, "little"),
                    raw[lo * width : hi * width],
                    *texts[lo:hi],
                )
            ),
        )
        for key, (lo, hi) in zip(tiles.keys, pairwise(bounds), strict=True)
    ]


def _decode_texts(spec: FoldSpec, blobs: Sequence[bytes]) -> tuple[Array, Array]:
    row_type = statistic_of(spec).row_type
    stored = _stored_type(row_type)
    counts, fixed, texts = [], [], []
    for blob in blobs:
        count = int.from_bytes(blob[1:5], "little")
        end = 5 + count * stored.itemsize
        if len(blob) < end:
            raise _corrupt(spec, f"it ends within its {count} records")
        counts.append(count)
        fixed.append(blob[5:end])
        texts.append(blob[end:])
    records = np.frombuffer(b"".join(fixed), stored)
    text = b"".join(texts)
    ends = list(accumulate(records["value"].tolist(), initial=0))
    starts_of_keys = list(accumulate(counts, initial=0))
    if [ends[hi] - ends[lo] for lo, hi in pairwise(starts_of_keys)] != [len(t) for t in texts]:
        raise _corrupt(spec, "its strings are not as long as its records say")
    rows = np.empty(len(records), row_type)
    for name in row_type.names or ():
        if name != "value":
            rows[name] = records[name]
    try:
        rows["value"] = [str(text[lo:hi], "utf-8") for lo, hi in pairwise(ends)]
    except UnicodeDecodeError as error:
        raise _corrupt(spec, "a string is not UTF-8") from error
    return rows, np.array(counts, np.int64)


def _corrupt(spec: FoldSpec, why: str) -> CorruptData:
    return CorruptData(
        f"A stored state of {spec.kind} over {spec.event} cannot be read: {why}.",
        "Tiles are derived: rebuild them from the log.",
    )
