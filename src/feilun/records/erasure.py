"""Who was erased, without saying who: keyed hashes of subjects, and the moment of each erasure.

An erasure covers what was before its moment. A record of an erased subject that comes again (a
resend, an import of an old file, a row of a table) is refused; what the subject does later is new.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from feilun.errors import CorruptData
from feilun.records.codec import decode_record
from feilun.records.record import Record

KEY_BYTES = 32
NAME_BYTES = 16
_CACHED = 100_000

_set_aside = msgspec.msgpack.Decoder(tuple[int, Record])
# A name and its value, as in JSON that was cut short, a Python dictionary, or name=value.
_PAIR = re.compile(
    r"""(?P<name>\w{1,200})["']?\s{0,8}[:=]\s{0,8}"""
    r"""(?:"(?P<double>[^"]{0,400})"|'(?P<single>[^']{0,400})'|(?P<bare>[^\s"',;}&\])]{1,400}))"""
)


@dataclass(frozen=True)
class Erasures:
    """Erased subjects: a secret key, and for each subject's keyed hash the moment (µs UTC).

    The key keeps whoever sees a hash alone from trying subjects one after another. Whoever has the
    key can tell whether a given subject was erased, which is what it is for.

    Examples
    --------
    >>> erasures = Erasures(bytes(32)).adding(["user_id=7"], 100)
    >>> erasures.moment("user_id=7"), erasures.moment("user_id=8"), erasures.moment("")
    (100, None, None)
    """

    key: bytes
    moments: Mapping[bytes, int] = field(default_factory=dict)
    _known: dict[str, int | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def begun(cls) -> Erasures:
        """Return an empty list with a new secret key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def name(self, subject: str) -> bytes:
        """Return the 16 bytes under which a subject is kept."""
        return hashlib.blake2b(subject.encode(), key=self.key, digest_size=NAME_BYTES).digest()

    def tombstone(self, subject: str, name: bytes) -> bytes:
        """Return the 32 bytes that stand for the name of one erased record of a subject."""
        mark = hashlib.blake2b(name, key=self.key, digest_size=NAME_BYTES).digest()
        return self.name(subject) + mark

    def moment(self, subject: str) -> int | None:
        """Return before when the subject is erased, µs UTC; None if it is not."""
        if subject in self._known:
            return self._known[subject]
        if len(self._known) >= _CACHED:
            self._known.clear()
        found = self.moments.get(self.name(subject)) if subject else None
        self._known[subject] = found
        return found

    def covers(self, record: Record) -> bool:
        """Whether the record is one that is erased, by its subject and its effective time."""
        moment = self.moment(record.subject)
        return moment is not None and record.time < moment

    def adding(self, subjects: Iterable[str], moment: int) -> Erasures:
        """Return the list with more subjects, erased before ``moment``; later moments stay."""
        named = {self.name(subject): moment for subject in subjects}
        return self.merged(named)

    def merged(self, moments: Mapping[bytes, int]) -> Erasures:
        """Return the list with more entries; of two moments of one subject the later counts."""
        both = dict(self.moments)
        for name, moment in moments.items():
            both[name] = max(moment, both.get(name, moment))
        return Erasures(self.key, both)

    def lacks(self, moments: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return those of ``moments`` that are not in the list, or later than in it."""
        return {
            name: moment for name, moment in moments.items() if self.moments.get(name, -1) < moment
        }


WITHHELD = "It speaks of somebody who was erased: it is not kept."
"""The reason under which that is kept as bad, without a byte of it."""


def withheld(
    erasures: Erasures | None, items: Sequence[tuple[str, bytes]]
) -> Sequence[tuple[str, bytes]]:
    """Return reasons and bytes of what cannot be used, without what speaks of the erased.

    When it happened nobody can say, so it goes whenever it comes.
    """
    if erasures is None:
        return items
    return [
        (WITHHELD, b"") if mentioned(erasures, raw, received=0) else (reason, raw)
        for reason, raw in items
    ]


def mentioned(erasures: Erasures, raw: bytes, received: int) -> bool:
    """Whether bytes that could not become a record speak of somebody who is erased.

    Known are records (refused, or set aside by the engine), and in JSON or other text a name and
    a value beside each other that together are an erased subject: ``"user_id": 7``.

    Parameters
    ----------
    erasures : Erasures
        Who is erased.
    raw : bytes
        What was kept.
    received : int
        When it came, µs UTC: what came after the moment of an erasure is not covered.
    """
    record = record_in(raw)
    if record is not None:
        return erasures.covers(record)
    return any(
        (moment := erasures.moment(subject)) is not None and received < moment
        for subject in _candidates(raw)
    )


def record_in(raw: bytes) -> Record | None:
    """Return the record that was refused or set aside; None if the bytes are something else."""
    try:
        return _set_aside.decode(raw)[1]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return decode_record(raw)
    except CorruptData:
        return None


def _candidates(raw: bytes) -> Iterator[str]:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        document = None
    yield from _pairs(document)
    for found in _PAIR.finditer(raw.decode("utf-8", "replace")):
        value = next(v for v in (found["double"], found["single"], found["bare"]) if v is not None)
        yield f"{found['name']}={value}"


def _pairs(document: Any) -> Iterator[str]:
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from (f"{n}={v}" for n, v in item.items() if not isinstance(v, dict | list))
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
