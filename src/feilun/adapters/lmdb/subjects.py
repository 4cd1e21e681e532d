"""Which segments of a log hold records about whom: a subject's hash and a segment, and no value."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import filterfalse, repeat

import lmdb
import numpy as np

from feilun.records.columns import cells
from feilun.records.hashing import digests

_SEGMENT = struct.Struct(">I")
_SUBJECT_BYTES = 8
_NAME = np.dtype(">u8")
_KEY = np.dtype([("name", ">u8"), ("segment", ">u4")])


class Subjects:
    """The index of subjects in a database of a log.

    Remembers whom the newest segment has, so that only who is new there is put. That is safe
    because an entry goes only when an erasure writes the log anew, and no other process has it
    open then.
    """

    def __init__(self, database: lmdb._Database) -> None:
        self._database = database
        self._newest: tuple[int, set[str]] = (-1, set())  # a segment, and whom it has

    def put(self, txn: lmdb.Transaction[bytes], segment: int, subjects: Iterable[str]) -> set[str]:
        """Say that a segment has records about ``subjects``; return those who are new there.

        An empty subject is nobody.
        """
        newest, stored = self._newest
        known = stored if segment == newest else ()
        new = set(filterfalse(known.__contains__, subjects))
        new.discard("")
        names = np.frombuffer(digests(b"", list(new), _SUBJECT_BYTES), _NAME)
        keys = np.empty(len(new), _KEY)
        keys["name"] = np.sort(names.astype(np.uint64))  # neighbours are put for less
        keys["segment"] = segment
        with txn.cursor(self._database) as cursor:
            cursor.putmulti(zip(cells(keys.tobytes(), _KEY.itemsize), repeat(b"")), overwrite=False)
        return new

    def remember(self, segment: int, subjects: set[str]) -> None:
        """Put these no more: they were put, and their transaction is durable."""
        newest, stored = self._newest
        if segment > newest:
            self._newest = (segment, subjects)
        elif segment == newest:
            stored.update(subjects)

    def segments(self, txn: lmdb.Transaction[bytes], subject: str) -> list[int]:
        """Return the segments that hold records about ``subject``, or about one of its hash."""
        prefix = _hash(subject)
        found: list[int] = []
        with txn.cursor(self._database) as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key().startswith(prefix):
                found.append(_SEGMENT.unpack(cursor.key()[_SUBJECT_BYTES:])[0])
                more = cursor.next()
        return found


def index_key(subject: str, segment: int) -> bytes:
    """Return the key that says that ``segment`` has records about ``subject``."""
    return _hash(subject) + _SEGMENT.pack(segment)


def _hash(subject: str) -> bytes:
    return digests(b"", [subject], _SUBJECT_BYTES)
