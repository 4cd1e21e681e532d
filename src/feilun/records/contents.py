"""What events say, as bytes: their bodies, the digests of what clients said, and their subjects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from feilun.records.columns import DIGEST_BYTES, cells
from feilun.records.compiled import loops
from feilun.records.hashing import digests

_encode = msgspec.msgpack.Encoder().encode


class Contents(NamedTuple):
    """Of each event its body, the digest of what its client said, and whom it is about."""

    bodies: list[bytes]
    digests: list[bytes]
    subjects: list[str]


def contents(
    event: str,
    rows: Sequence[Sequence[Any]],
    times: Sequence[int | None],
    *,
    grown: bool = False,
    subject: int | None = None,
    about: str = "",
) -> Contents:
    r"""Return what events of one kind say.

    A digest is 16 bytes of BLAKE2b over the MessagePack array of the event's name, its time and its
    fields: what a client said.

    Parameters
    ----------
    event : str
        The name of their kind.
    rows : sequence of sequences
        The values of the fields of each.
    times : sequence of int
        The time that each client gave, µs UTC; None where it gave none.
    grown : bool
        Absent fields at the end do not count in a digest, so that an event sent again after its
        definition has grown by optional fields is still the same.
    subject : int
        The place of the field that names whom an event is about; None if there is none.
    about : str
        What the name of a subject begins with.

    Examples
    --------
    >>> said = contents("click", [(7, None)], [5], grown=True, subject=0, about="user_id=")
    >>> said.bodies, said.subjects
    ([b'\x92\x07\xc0'], ['user_id=7'])
    >>> said.digests == contents("click", [(7,)], [5]).digests
    True
    """
    begun = b"\x93" + _encode(event)
    place = -1 if subject is None else subject
    if loops is not None:
        found = loops.contents(
            list(rows), list(times), begun, DIGEST_BYTES, place, about.encode(), grown
        )
        if found is not None:
            bodies, hashes, subjects = found
            return Contents(bodies, cells(hashes, DIGEST_BYTES), subjects)
    bodies = list(map(_encode, rows))
    counted: Iterable[bytes] = bodies
    if grown:
        counted = [_encode(_without_absent_end(row)) for row in rows]
    said = [_encode(time) + body for time, body in zip(times, counted, strict=True)]
    hashes = digests(begun, said, DIGEST_BYTES)
    return Contents(bodies, cells(hashes, DIGEST_BYTES), subjects_of(rows, subject, about))


def subjects_of(rows: Iterable[Sequence[Any]], subject: int | None, about: str) -> list[str]:
    """Return whom each event is about, as ``entity=value``; empty if nobody."""
    return [
        "" if subject is None or row[subject] is None else f"{about}{row[subject]}" for row in rows
    ]


def _without_absent_end(values: Sequence[Any]) -> Sequence[Any]:
    said = len(values)
    while said and values[said - 1] is None:
        said -= 1
    return values[:said]
