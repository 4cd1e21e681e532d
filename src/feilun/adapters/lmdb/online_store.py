"""The online store on LMDB: one database of values, and the mark in ``meta``."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Self

import lmdb

from feilun.adapters.lmdb.environment import Environment
from feilun.errors import Fenced, InputError
from feilun.ports.online_store import KEY_LIMIT, Mark

KIND = "feilun-tiles"
VERSION = 2
DEFAULT_QUOTA_BYTES = 64 << 30

_PUTS_AT_ONCE = 4_096
_MARK = struct.Struct(">Qq")
_MARK_KEY = b"mark"


class LmdbSnapshot:
    """One moment of an ``LmdbOnlineStore``: from its beginning to the end of the ``with`` block.

    Every request opens one, so it is a class: a generator would cost as much as what is read.
    """

    __slots__ = ("_env", "_mark", "_txn", "_version", "get")

    def __init__(self, store: LmdbOnlineStore) -> None:
        self._env = store._env
        self._txn = store._env.begin(store._values)
        self.get = self._txn.get
        self._version = version = store._age + self._txn.id()
        known, self._mark = store._seen
        if version != known:
            self._mark = _mark_of(self.get(_MARK_KEY, None, store._env.meta))
            store._seen = version, self._mark

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._txn.abort()
        if isinstance(error, lmdb.Error):
            raise self._env.translate(error) from error

    def mark(self) -> Mark:
        """Return how far the log was folded at this moment."""
        return self._mark

    def version(self) -> int:
        """Return the number of LMDB's last transaction."""
        return self._version

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of ``keys``, in their order; None where there is none."""
        try:
            return list(map(self.get, keys))
        except lmdb.BadValsizeError:  # LMDB has no empty key
            return [self.get(key) if key else None for key in keys]

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` keys behind ``after`` with their values, in the keys' order."""
        with self._txn.cursor() as cursor:
            there = cursor.set_range(after)
            if there and cursor.key() == after:
                there = cursor.next()
            return list(islice(cursor.iternext(), limit)) if there else []


class LmdbOnlineStore:
    """An ``OnlineStore`` in an LMDB folder, read by every worker through shared memory.

    Parameters
    ----------
    path : Path
        Its folder, made if absent; on a local disk.
    quota_bytes : int
        How many bytes it may hold; beyond it ``commit`` raises StoreFull.

    Raises
    ------
    ConfigError
        If the folder cannot be opened, holds something else, or is of a newer format.
    """

    def __init__(self, path: Path, *, quota_bytes: int = DEFAULT_QUOTA_BYTES) -> None:
        self._age = 0
        self._env = Environment(
            path,
            kind=KIND,
            version=VERSION,
            databases=("values",),
            quota_bytes=quota_bytes,
            derived=True,
        )
        self._bind()

    def _bind(self) -> None:
        self._values = self._env.databases["values"]
        self._age += 1 << 48  # a new environment counts its transactions from the beginning
        self._seen = (0, Mark(0, 0))

    def snapshot(self) -> LmdbSnapshot:
        """Open one moment for reading; it ends with the block."""
        return LmdbSnapshot(self)

    def commit(self, puts: Iterable[tuple[bytes, bytes]], expected: int, mark: Mark) -> None:
        """Store ``puts`` and move the mark in one transaction; a power loss may undo it, whole.

        Raises
        ------
        Fenced
            If the stored offset is not ``expected``.
        InputError
            If a key is empty or too long.
        StoreFull
            If there is no space.
        """
        with self._env.write() as txn:
            stands = self._mark(txn).offset
            if stands != expected:
                raise Fenced(
                    f"The store stands at offset {stands}, not {expected}.",
                    "Another engine folds into it; stop this one.",
                )
            rest = iter(puts)
            with txn.cursor(self._values) as cursor:
                while items := list(islice(rest, _PUTS_AT_ONCE)):
                    for size in set(map(len, map(itemgetter(0), items))):
                        if not 0 < size <= KEY_LIMIT:
                            raise InputError(f"A store key has 1 to {KEY_LIMIT} bytes, not {size}.")
                    cursor.putmulti(items)
            txn.put(_MARK_KEY, _MARK.pack(*mark), db=self._env.meta)

    def discard(self, prefix: bytes, limit: int) -> int:
        """Delete up to ``limit`` values whose keys begin with ``prefix``; return how many."""
        discarded = 0
        with self._env.write() as txn, txn.cursor(self._values) as cursor:
            more = cursor.set_range(prefix)
            while more and discarded < limit and cursor.key().startswith(prefix):
                more = cursor.delete() and bool(cursor.key())
                discarded += 1
        return discarded

    def clear(self) -> None:
        """Forget everything; the mark returns to offset 0."""
        with self._env.write() as txn:
            txn.drop(self._values, delete=False)
            txn.delete(_MARK_KEY, db=self._env.meta)

    def erase(self) -> None:
        """Forget everything, so that no file has a byte of it.

        Raises
        ------
        Unavailable
            If another process has the store open; nothing was changed.
        """
        with self._env.replaced():
            pass  # by an empty one
        self._bind()

    def close(self) -> None:
        """Close the folder; further calls are errors."""
        self._env.close()

    def _mark(self, txn: lmdb.Transaction[bytes]) -> Mark:
        return _mark_of(txn.get(_MARK_KEY, db=self._env.meta))


def _mark_of(raw: bytes | None) -> Mark:
    return Mark(0, 0) if raw is None else Mark(*_MARK.unpack(raw))
