"""Which records are the same one: the rule behind "each event takes effect once".

A record is named by its source and its id. Names live in days, by the client's own time of the
event, which a resend cannot change. A day closes when it lies more than the window of days before
the receipt of a record, and stays closed whatever clocks do later: its names may be forgotten, for
what belongs to a closed day is *late*, kept and never counted.
"""

from __future__ import annotations

import hashlib
import re
import struct
from functools import lru_cache

from feilun.clock import DAY
from feilun.errors import InputError
from feilun.records.compiled import loops
from feilun.records.lists import distinct, extremes
from feilun.records.record import IMPORTED, Record
from feilun.records.rows import Rows

DEDUP_DAYS = 7
"""How many whole days a day of names stays open behind the newest receipt."""

ID_LIMIT = 64
"""The most characters that an id may have; a source likewise."""

_LENGTHS = frozenset(range(1, ID_LIMIT + 1))
_DAY = struct.Struct(">I")
_CONFLICT = re.compile(r" came before with other content: digest [0-9a-f]+ at offset (\d+), now ")
_LAST_DAY = 2**32 - 1


def day_of(time: int) -> int:
    """Return the UTC day of ``time`` (µs), counted from 1970-01-01; earlier times are day 0.

    Examples
    --------
    >>> day_of(0), day_of(86_400_000_000), day_of(-1)
    (0, 1, 0)
    """
    day = time // DAY
    return day if 0 <= day <= _LAST_DAY else min(max(day, 0), _LAST_DAY)


def days_of(rows: Rows) -> list[int]:
    """Return the day of each record's name: the `day_of` its client's own time."""
    times = rows.client_time
    least, greatest = extremes(times) or (min(times), max(times))
    first, last = day_of(least), day_of(greatest)
    return [first] * len(times) if first == last else [day_of(time) for time in times]


def first_open_day(received: int, days: int) -> int:
    """Return the first day that is still open to a record received at ``received`` (µs)."""
    return day_of(received) - days


def never_closes(record: Record) -> bool:
    """Whether the record's day stays open: imported history may be imported again at any age."""
    return bool(record.flags & IMPORTED)


def name_key(day: int, source: str, id: str) -> bytes:
    """Return the bytes under which a name is kept: day, hash of the source, the id itself.

    Ids that grow with time, as UUIDv7 do, so land beside each other, which makes a durable commit
    several times cheaper than hashes would. At most 268 bytes.

    Raises
    ------
    InputError
        If the id has not 1 to ``ID_LIMIT`` characters.
    """
    if not 0 < len(id) <= ID_LIMIT:
        raise InputError(f"A record's id has 1 to {ID_LIMIT} characters, not {len(id)}.")
    return _before_id(day, source) + id.encode()


def name_keys(rows: Rows, days: list[int]) -> list[bytes]:
    """Return `name_key` of each record, whose day is the one at its place in ``days``."""
    lengths = set(map(len, rows.id))
    if not lengths <= _LENGTHS:
        wrong = min(lengths - _LENGTHS)
        raise InputError(f"A record's id has 1 to {ID_LIMIT} characters, not {wrong}.")
    if len(distinct(days)) == 1 and len(distinct(rows.source)) == 1:
        before = _before_id(days[0], rows.source[0])
        if loops is not None:
            keys: list[bytes] = loops.keys(before, rows.id)
            return keys
        return [before + id.encode() for id in rows.id]
    return [
        _before_id(day, source) + id.encode()
        for source, id, day in zip(rows.source, rows.id, days, strict=True)
    ]


@lru_cache(maxsize=4096)
def _before_id(day: int, source: str) -> bytes:
    return _DAY.pack(day) + hashlib.blake2b(source.encode(), digest_size=8).digest()


def day_prefix(day: int) -> bytes:
    """Return the bytes before which every name of an earlier day sorts."""
    return _DAY.pack(max(day, 0))


def day_of_key(key: bytes) -> int:
    """Return the day of a name's key."""
    day: int = _DAY.unpack_from(key)[0]
    return day


def conflict_reason(record: Record, first: bytes, offset: int) -> str:
    """Say why a record is refused whose name was taken by other content."""
    return (
        f"Id {record.id!r} of source {record.source!r} came before with other content: "
        f"digest {first.hex()} at offset {offset}, now {record.digest.hex()}."
    )


def first_offset(reason: str) -> int | None:
    """Return the offset that a `conflict_reason` names; None for another reason."""
    found = _CONFLICT.search(reason)
    return None if found is None else int(found[1])
