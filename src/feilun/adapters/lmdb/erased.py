"""Erasure from a log: what is refused since, and how the rest of it is written anew."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import lmdb
import numpy as np
import numpy.typing as npt

from feilun.adapters.lmdb.bad_events import decode_bad
from feilun.adapters.lmdb.environment import Environment
from feilun.adapters.lmdb.names import offset_of
from feilun.records import identity
from feilun.records.batch import RecordBatch
from feilun.records.codec import encode_batch
from feilun.records.erasure import NAME_BYTES, Erasures, mentioned
from feilun.records.record import Record
from feilun.records.rows import Rows

_KEY = b"erasures"
_COPIED = frozenset({"batches", "open", "kept", "subjects", "bad"})
_MOMENT = struct.Struct(">q")
_NUMBER = struct.Struct(">Q")


class Erased:
    """Who is erased from a log; read once, for it changes only while nobody else has the log.

    Parameters
    ----------
    env : Environment
        The log's.
    database : database
        Hashes of subjects with moments, and hashes of names of erased records.
    """

    def __init__(self, env: Environment, database: lmdb._Database) -> None:
        self._env = env
        self._database = database
        self.erasures = self._load()

    def _load(self) -> Erasures | None:
        with self._env.read() as txn, txn.cursor(self._database) as cursor:
            key = txn.get(_KEY, db=self._env.meta)
            if key is None:
                return None
            moments = {
                name: _MOMENT.unpack(moment)[0]
                for name, moment in cursor
                if len(name) == NAME_BYTES
            }
        return Erasures(key, moments)

    def refused(self, rows: Rows) -> frozenset[int]:
        """Return the places of records that are erased and must not come back."""
        erasures = self.erasures
        if erasures is None:
            return frozenset()
        known = [at for at, who in enumerate(rows.subject) if erasures.moment(who) is not None]
        if not known:
            return frozenset()
        with self._env.read() as txn:
            return frozenset(
                at
                for at in known
                if erasures.covers(rows[at])
                or txn.get(_tombstone(erasures, rows[at]), db=self._database) is not None
            )


class Rewrite:
    """A log being copied into a fresh environment, without what is erased.

    Parameters
    ----------
    source, target : Environment
        The log, and where the rest of it goes.
    erasures : Erasures
        Everybody who is erased, also from before.
    segment : int
        How many offsets a segment has.

    Attributes
    ----------
    gone : dict
        The offsets of the records that were left out, with their subjects.
    """

    def __init__(
        self, source: Environment, target: Environment, erasures: Erasures, segment: int
    ) -> None:
        self._source = source
        self._target = target
        self._erasures = erasures
        self._segment = segment
        self.gone: dict[int, str] = {}
        self._tombstones: list[bytes] = []
        self._still: set[tuple[str, int]] = set()

    def copy_batches(
        self, affected: Callable[[int], bool], readable: Callable[[int, bytes], RecordBatch]
    ) -> None:
        """Copy the records; of batches that may be affected only those that stay."""

        def change(key: bytes, raw: bytes) -> bytes:
            base: int = _NUMBER.unpack(key)[0]
            return self._without(readable(base, raw), raw) if affected(base) else raw

        self._source.copy(self._target, "batches", change)

    def _without(self, batch: RecordBatch, raw: bytes) -> bytes:
        subjects, rows = batch.subjects(), covered_rows(batch, self._erasures)
        erased = set(rows.tolist())
        for row in range(len(batch)) if self._knows_any(subjects) else ():
            if row not in erased and self._erasures.moment(subjects[row]) is not None:
                self._still.add((subjects[row], batch.base // self._segment))
        if not erased:
            return raw
        offsets = batch.offsets.tolist()
        self.gone.update((offsets[row], subjects[row]) for row in erased)
        left: list[Record | None] = [None] * (batch.end - batch.base)
        for offset, record in batch.records():
            if offset not in self.gone:
                left[offset - batch.base] = record
        return encode_batch(batch.base, left)

    def _knows_any(self, subjects: Sequence[str]) -> bool:
        return any(self._erasures.moment(subject) is not None for subject in set(subjects))

    def copy_names(self) -> None:
        """Copy the names; a keyed hash stays of those that go, so that a resend is known."""

        def change(key: bytes, raw: bytes) -> bytes | None:
            subject = self.gone.get(offset_of(raw))
            if subject is None:
                return raw
            self._tombstones.append(self._erasures.tombstone(subject, key))
            return None

        for database in ("open", "kept"):
            self._source.copy(self._target, database, change)

    def copy_subjects(self, index_key: Callable[[str, int], bytes]) -> None:
        """Copy the index of subjects, but for where no record about them is left."""
        segments = {(subject, offset // self._segment) for offset, subject in self.gone.items()}
        # What is left of another subject with the same 64 bits of hash is not looked for: only who
        # chose both subjects can have made that happen.
        drop = {index_key(*pair) for pair in segments - self._still}
        self._source.copy(self._target, "subjects", lambda key, raw: None if key in drop else raw)

    def copy_rest(self) -> None:
        """Copy bad events that speak of nobody erased, who is erased, and all that names nobody."""
        erasures = self._erasures

        def change_bad(_key: bytes, raw: bytes) -> bytes | None:
            event = decode_bad(raw)
            return None if mentioned(erasures, event.raw, event.received) else raw

        self._source.copy(self._target, "bad", change_bad)
        for database in self._source.databases.keys() - _COPIED:
            self._source.copy(self._target, database, lambda _key, raw: raw)
        with self._source.read() as txn, txn.cursor(self._source.meta) as cursor:
            meta = list(cursor)
        entries = [(name, _MOMENT.pack(moment)) for name, moment in erasures.moments.items()]
        entries += [(name, b"") for name in self._tombstones]
        with self._target.write() as txn:
            with txn.cursor(self._target.databases["erased"]) as cursor:
                cursor.putmulti(entries)
            with txn.cursor(self._target.meta) as cursor:
                cursor.putmulti([*meta, (_KEY, erasures.key)])


def covered_rows(batch: RecordBatch, erasures: Erasures) -> npt.NDArray[np.intp]:
    """Return the rows of a batch that an erasure covers."""
    if not len(batch):
        return np.zeros(0, np.intp)
    moments = [erasures.moment(subject) for subject in batch.subjects()]
    before = np.array([-(2**63) if moment is None else moment for moment in moments], np.int64)
    return np.flatnonzero(batch.time < before)


def _tombstone(erasures: Erasures, record: Record) -> bytes:
    day = identity.day_of(record.client_time)
    return erasures.tombstone(record.subject, identity.name_key(day, record.source, record.id))
