"""The variables of a SavedModel: names in ``variables.index``, bytes in ``variables.data``.

The index is a table of LevelDB's: blocks of sorted keys, and an index of blocks at its end.
TensorFlow writes it without compression (``tensor_bundle.cc`` of TensorFlow 2.21).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from feilun.adapters.tensorflow.checksum import masked
from feilun.adapters.tensorflow.messages import (
    MAX_STORED,
    Array,
    dtype_of,
    shape_of,
    size_of,
    texts_of,
)
from feilun.adapters.tensorflow.protobuf import Message, Reader, varint

INDEX = "variables/variables.index"
DATA = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_TRAILER = 5
_MAX_KEY = 2048
_PART = b"\0"
"""How the keys of parts of a variable begin; its name follows, then what they hold."""


class Checkpoint:
    """Named tensors.

    Parameters
    ----------
    reader : Reader
        Reads messages.
    files : mapping
        The files of a SavedModel by their names.

    Raises
    ------
    ValueError
        If the table is damaged, compressed, or of another byte order.
    """

    def __init__(self, reader: Reader, files: Mapping[str, bytes]) -> None:
        self._shards = {
            int(found[1]): data for name, data in files.items() if (found := DATA.fullmatch(name))
        }
        self._entries: dict[str, Message] = {}
        self._parts: list[tuple[bytes, Message]] = []
        for key, value in _table(files[INDEX]):
            if key == b"":
                if reader.read("BundleHeader", value)["big_endian"]:
                    raise ValueError("its variables are of another byte order")
            elif key.startswith(_PART):
                self._parts.append((key, reader.read("BundleEntry", value)))
            else:
                self._entries[key.decode()] = reader.read("BundleEntry", value)
        self._parts.sort(key=lambda part: part[0])

    def tensor(self, name: str, part: str = "") -> Array:
        """Return a tensor, or a part of it: its whole shape, and a start and length of each axis.

        Raises
        ------
        ValueError
            If there is none, or it is cut off.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise ValueError(f"its checkpoint has no {name[:120]}")
        found = self._joined(name, entry) if entry["slices"] else self._stored(name, entry)
        if not part:
            return found
        cuts = part.rpartition(" ")[2].split(":")
        return found[tuple(_cut(each) for each in cuts)]

    def _joined(self, name: str, entry: Message) -> Array:
        """Return a tensor whose parts are stored; both lists of them are in order."""
        shape = shape_of(entry["shape"]) or ()
        size_of(shape, MAX_STORED)
        escaped = name.encode().replace(b"\xff", b"\xff\x00")
        own = _PART + escaped + b"\0\1"
        stored = [each for key, each in self._parts if key.startswith(own)]
        extents = sorted(
            [(each["start"], each["length"]) for each in part["extents"]]
            for part in entry["slices"]
        )
        found = np.zeros(shape, dtype_of(entry["dtype"]))
        filled = 0
        for part, extent in zip(stored, extents, strict=True):
            place = tuple(slice(s, s + length if length else None) for s, length in extent)
            value = self._stored(name, part)
            if found[place].shape != value.shape:
                raise ValueError(f"the parts of its variable {name[:120]} do not fit")
            found[place] = value
            filled += value.size
        if filled != found.size:
            raise ValueError(f"a part of its variable {name[:120]} is not there")
        return found

    def _stored(self, name: str, entry: Message) -> Array:
        shape = shape_of(entry["shape"]) or ()
        size, dtype = size_of(shape, MAX_STORED), dtype_of(entry["dtype"])
        start, length = entry["offset"], entry["size"]
        shard = self._shards.get(entry["shard"], b"")
        if not 0 <= start <= start + length <= len(shard):
            raise ValueError(f"its variable {name[:120]} is cut off")
        data = memoryview(shard)[start : start + length]
        if dtype.kind == "O":
            return _texts(data, size).reshape(shape)
        if length != size * dtype.itemsize:
            raise ValueError(f"its variable {name[:120]} is of another size than its bytes")
        if masked(data) != entry["crc"]:
            raise ValueError(f"its variable {name[:120]} is damaged")
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _cut(said: str) -> slice:
    """Return what ``start,length`` means; ``-`` is all.

    Examples
    --------
    >>> _cut("2,3"), _cut("-")
    (slice(2, 5, None), slice(None, None, None))
    """
    if said == "-":
        return slice(None)
    start, length = (int(each) for each in said.split(","))
    return slice(start, start + length)


def _texts(data: memoryview, count: int) -> Array:
    """Return texts: their lengths, a checksum, and their bytes one after the other."""
    lengths, at = [], 0
    for _ in range(count):
        length, at = varint(data, at)
        lengths.append(length)
    at += 4
    if at + sum(lengths) != len(data):
        raise ValueError("a variable of texts is cut off")
    found = []
    for length in lengths:
        found.append(bytes(data[at : at + length]))
        at += length
    return texts_of(found)


def _table(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the keys and values of a LevelDB table."""
    if len(data) < _FOOTER or data[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("its variables.index is no table")
    view = memoryview(data)
    footer = view[-_FOOTER:]
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    rest = len(data)  # blocks that overlap would make much of little
    for _, handle in _block(view, *_handle(footer, at)):
        start, size = _handle(handle, 0)
        rest -= size
        if rest < 0:
            raise ValueError("its variables.index is damaged")
        yield from _block(view, start, size)


def _handle(view: memoryview, at: int) -> tuple[int, int]:
    start, at = varint(view, at)
    return start, varint(view, at)[0]


def _block(view: memoryview, start: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield a block's entries: each key says how much it shares with the one before."""
    end = start + size + _TRAILER
    if end > len(view) or size < 4:
        raise ValueError("its variables.index is cut off")
    if view[start + size]:
        raise ValueError("its variables.index is compressed")
    if masked(view[start : start + size + 1]).to_bytes(4, "little") != view[end - 4 : end]:
        raise ValueError("its variables.index is damaged")
    block = view[start : start + size]
    restarts = int.from_bytes(block[-4:], "little")
    last = size - 4 - 4 * restarts
    key, at = b"", 0
    while at < last:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        whole = at + own + length <= last and shared <= len(key) and shared + own <= _MAX_KEY
        if not whole:
            raise ValueError("its variables.index is damaged")
        key = key[:shared] + bytes(block[at : at + own])
        at += own
        yield key, block[at : at + length]
        at += length
