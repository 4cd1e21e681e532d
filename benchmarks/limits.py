"""The limits: the least that the machine must do for the same bytes, with LMDB and NumPy alone.

Run as a worker, so that it is measured as the contenders are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from benchmarks.protocol import latencies, serve, timed

_MAP = 1 << 36
_KEY_BYTES = 8
_stores: dict[str, lmdb.Environment] = {}


def open_values(folder: str, tiles: str) -> str:
    """Copy a store's tiles to a bare LMDB folder, one value a key; return its name.

    What several families hold of one entity becomes one value: the same bytes, found at once.
    """
    values: dict[bytes, bytes] = {}
    for key, blob in _entries(tiles, b"values"):
        if len(key) >= _KEY_BYTES * 2:
            entity = key[-_KEY_BYTES:]
            values[entity] = values.get(entity, b"") + blob
    name = tempfile.mkdtemp(prefix="limit-", dir=folder)
    _stores[name] = lmdb.open(name, map_size=_MAP)
    with _stores[name].begin(write=True) as txn:
        for entity, value in values.items():
            txn.put(entity, value)
    return name


def get_and_decode(name: str, requests: list[list[int]]) -> dict[str, float]:
    """Time one read transaction, one get a key, and one NumPy decode of all the bytes."""
    store = _stores[name]
    asked = [[_key(user) for user in keys] for keys in requests]

    def read(keys: list[bytes]) -> Any:
        with store.begin() as txn:
            found = [txn.get(key) for key in keys]
        raw = found[0] if len(found) == 1 else b"".join(found)
        return np.frombuffer(raw, np.uint8)

    return {**latencies(read, asked), "bytes": float(np.median([len(read(k)) for k in asked]))}


def commit(folder: str, log: str, group: int) -> dict[str, float]:
    """Time storing what a log holds anew, in its own order, ``group`` events a durable commit.

    The same keys and values in as many databases, and nothing else: no HTTP, no JSON, no check.
    """
    groups = _groups(log, group)
    with tempfile.TemporaryDirectory(dir=folder) as name, _bare(name) as store:
        databases = [store.open_db(place.encode()) for place in _DATABASES]

        def write() -> None:
            for entries in groups:
                with store.begin(write=True) as txn:
                    for database, key, value in entries:
                        txn.put(key, value, db=databases[database])

        return timed(write)


_DATABASES = ("batches", "open", "subjects")


def _groups(log: str, group: int) -> list[list[tuple[int, bytes, bytes]]]:
    """Return the entries of a log's databases in the groups in which they are to be stored."""
    names = sorted(_entries(log, b"open"), key=lambda entry: entry[1][:_KEY_BYTES])
    batches = sorted(_entries(log, b"batches"))
    # A log puts subjects as their events come, not by hash: a commit touches pages everywhere.
    subjects = sorted(_entries(log, b"subjects"), key=lambda entry: _arrival(entry[0]))
    count = max(1, round(len(names) / group))
    parts = (_split(batches, count), _split(names, count), _split(subjects, count))
    return [
        [(place, key, value) for place, entries in enumerate(each) for key, value in entries]
        for each in zip(*parts, strict=True)
    ]


def _arrival(key: bytes) -> tuple[bytes, bytes]:
    """Return what scatters the keys of subjects as arrival does: a segment, its hashes reversed."""
    return key[_KEY_BYTES:], key[:_KEY_BYTES][::-1]


def _split(entries: Sequence[tuple[bytes, bytes]], count: int) -> list[Any]:
    cuts = [len(entries) * at // count for at in range(count + 1)]
    return [entries[lo:hi] for lo, hi in pairwise(cuts)]


def _entries(folder: str, database: bytes) -> list[tuple[bytes, bytes]]:
    with lmdb.open(folder, map_size=_MAP, max_dbs=16, readonly=True) as store:
        handle = store.open_db(database, create=False)
        with store.begin(db=handle) as txn:
            return [(bytes(key), bytes(value)) for key, value in txn.cursor()]


def _bare(name: str) -> lmdb.Environment:
    return lmdb.open(str(Path(name)), map_size=_MAP, max_dbs=len(_DATABASES))


def _key(user: int) -> bytes:
    return (user + (1 << 63)).to_bytes(_KEY_BYTES, "big")


if __name__ == "__main__":
    serve({"open_values": open_values, "get_and_decode": get_and_decode, "commit": commit})
