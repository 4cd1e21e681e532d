"""The names of a log's records: which record is new, and which days are closed.

``feilun.records.identity`` has the rules. Names of open days lie in one database, and in another
those that are kept for as long as their records: of late records, and of imported ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import lmdb
import msgspec
import numpy as np

from feilun.adapters.lmdb.environment import Environment
from feilun.ports.event_log import Accepted, Appended, Named
from feilun.records import identity
from feilun.records.columns import cells, digest_column
from feilun.records.lists import distinct
from feilun.records.record import IMPORTED, LATE, Record
from feilun.records.rows import Rows

_NAME = struct.Struct(">Q16s")
_NAMES = np.dtype([("offset", ">u8"), ("digest", "V16")])
"""Many of them."""


@dataclass(slots=True)
class Naming:
    """One append in progress: ``base`` is the offset of its first new record.

    ``conflicts`` are the records whose name another one has, with the reason. Days before
    ``first_open`` are closed; ``examined`` is the day up to which that was looked for.
    """

    base: int
    first_open: int
    examined: int = 0
    conflicts: list[tuple[Record, str]] = field(default_factory=list)

    def refuse(self, record: Record, digest: bytes, first: int) -> Appended:
        """Answer for a record whose name the record at offset ``first`` has."""
        if digest == record.digest:
            return Appended("duplicate", first)
        self.conflicts.append((record, identity.conflict_reason(record, digest, first)))
        return Appended("conflict", -1)


def offset_of(value: bytes) -> int:
    """Return the offset of the record that has a name, from what is stored under the name."""
    offset: int = _NAME.unpack(value)[0]
    return offset


class Names:
    """The names in two databases of a log.

    Parameters
    ----------
    open_names : database
        Names of open days.
    kept : database
        Names of late and of imported records.
    days : int
        How many whole days a day of names stays open behind the newest receipt.
    """

    def __init__(self, open_names: lmdb._Database, kept: lmdb._Database, days: int) -> None:
        self._open = open_names
        self._kept = kept
        self._days = days

    def take(
        self, txn: lmdb.Transaction[bytes], rows: Rows, work: Naming
    ) -> tuple[Rows, Sequence[Appended]]:
        """Give each record its offset, or find out why it gets none; return first who got one.

        Raises
        ------
        InputError
            If an id has not 1 to ``ID_LIMIT`` characters, or a digest not 16 bytes.
        """
        days = identity.days_of(rows)
        if self._all_alike(txn, rows, min(days), work):
            return self._take_together(txn, rows, days, work)
        accepted: list[Record] = []
        answers = [self._take(txn, *item, work, accepted) for item in zip(rows, days, strict=True)]
        return Rows.of(accepted), answers

    def find(self, environment: Environment, day: int, source: str, id: str) -> Named | None:
        """Return the record that has a name of an open day.

        Raises
        ------
        InputError
            If the id has not 1 to ``ID_LIMIT`` characters.
        """
        value = environment.get(identity.name_key(day, source, id), self._open)
        return None if value is None else Named(*_NAME.unpack(value))

    def sweep(self, txn: lmdb.Transaction[bytes], first_open: int, limit: int) -> int:
        """Forget up to ``limit`` names of closed days; return how many."""
        swept = 0
        with txn.cursor(self._open) as cursor:
            more = cursor.first()
            while more and swept < limit and identity.day_of_key(cursor.key()) < first_open:
                more = cursor.delete() and bool(cursor.key())
                swept += 1
        return swept

    def close_days(
        self, txn: lmdb.Transaction[bytes], records: Iterable[Record], work: Naming
    ) -> None:
        """Close the days that the receipts of these records leave behind."""
        for record in records:
            if not identity.never_closes(record):
                self._is_late(txn, record, identity.day_of(record.client_time), work)

    def _all_alike(
        self, txn: lmdb.Transaction[bytes], rows: Rows, oldest: int, work: Naming
    ) -> bool:
        """Whether the names of all go to one database: all are imported, or none is nor is late.

        Days are closed only if so. That at once is what one after the other does: where the oldest
        day is open to the newest receipt, no receipt closes a day of these records.
        """
        imported = {flags & IMPORTED for flags in distinct(rows.flags)}
        if len(imported) > 1:
            return False
        if IMPORTED in imported:
            return True
        examined = identity.first_open_day(max(distinct(rows.received)), self._days)
        first_open = max(work.first_open, self._newest_before(txn, examined) + 1)
        if oldest < max(examined, first_open):
            return False
        work.first_open = first_open
        return True

    def _take_together(
        self, txn: lmdb.Transaction[bytes], rows: Rows, days: list[int], work: Naming
    ) -> tuple[Rows, Sequence[Appended]]:
        """Do as `_take` does for each of the records, whose names go to one database."""
        database = self._kept if rows.flags[0] & IMPORTED else self._open
        base, end = work.base, work.base + len(rows)
        keys = identity.name_keys(rows, days)
        names = np.empty(len(rows), _NAMES)
        names["offset"] = np.arange(base, end)
        names["digest"] = np.frombuffer(digest_column(rows.digest), _NAMES["digest"])
        values = cells(names.tobytes(), _NAMES.itemsize)
        with txn.cursor(database) as cursor:
            _, added = cursor.putmulti(zip(keys, values, strict=True), overwrite=False)
        if added == len(rows):
            return rows, Accepted(range(base, end))
        return self._without_repeats(txn, database, rows, keys, work)

    @staticmethod
    def _without_repeats(
        txn: lmdb.Transaction[bytes],
        database: lmdb._Database,
        rows: Rows,
        keys: Sequence[bytes],
        work: Naming,
    ) -> tuple[Rows, Sequence[Appended]]:
        """Answer after names were put as if all records were new, and close the gaps in offsets.

        A name is new if it has the offset that was put with it; every older one is below the base.
        """
        answers: list[Appended] = []
        moved: dict[int, tuple[int, bytes, bytes]] = {}
        for place, key in enumerate(keys, work.base):
            first, digest = _NAME.unpack(txn.get(key, db=database) or b"")
            if first == place:
                offset = work.base + len(moved)
                moved[place] = (offset, key, digest)
                answers.append(Appended("accepted", offset))
            else:
                if first in moved:
                    first = moved[first][0]
                answers.append(work.refuse(rows[place - work.base], digest, first))
        for place, (offset, key, digest) in moved.items():
            if offset != place:
                txn.put(key, _NAME.pack(offset, digest), db=database)
        return rows.chosen(place - work.base for place in moved), answers

    def _take(
        self,
        txn: lmdb.Transaction[bytes],
        record: Record,
        day: int,
        work: Naming,
        accepted: list[Record],
    ) -> Appended:
        kept = identity.never_closes(record)
        late = not kept and self._is_late(txn, record, day, work)
        key = identity.name_key(day, record.source, record.id)
        offset = work.base + len(accepted)
        database = self._kept if kept or late else self._open
        value = _NAME.pack(offset, record.digest)
        if not txn.put(key, value, db=database, overwrite=False):
            first, digest = _NAME.unpack(txn.get(key, db=database) or b"")
            return work.refuse(record, digest, first)
        if late:
            record = msgspec.structs.replace(record, flags=record.flags | LATE)
        elif not kept and day < work.examined:
            work.examined = day
        accepted.append(record)
        return Appended("late" if late else "accepted", offset)

    def _is_late(
        self, txn: lmdb.Transaction[bytes], record: Record, day: int, work: Naming
    ) -> bool:
        """Close the days that this receipt leaves behind; say whether the record's is closed."""
        first_open = identity.first_open_day(record.received, self._days)
        if first_open > work.examined:
            work.first_open = max(work.first_open, self._newest_before(txn, first_open) + 1)
            work.examined = first_open
        if day >= first_open and day >= work.first_open:
            return False
        work.first_open = max(work.first_open, day + 1)
        return True

    def _newest_before(self, txn: lmdb.Transaction[bytes], day: int) -> int:
        """Return the newest day before ``day`` that has open names; -1 if none has."""
        with txn.cursor(self._open) as cursor:
            found = cursor.set_range(identity.day_prefix(day))
            found = cursor.prev() if found else cursor.last()
            return identity.day_of_key(cursor.key()) if found else -1
