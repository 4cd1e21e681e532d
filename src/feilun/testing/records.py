"""Records for tests, short to write."""

from __future__ import annotations

import hashlib

import msgspec

from feilun.clock import DAY
from feilun.records.record import Record

START = 20_000 * DAY
"""A midnight in 2024 (µs UTC) at which tests begin."""


def make_record(
    id: str,
    *values: object,
    time: int = START,
    received: int | None = None,
    source: str = "web",
    schema: str = "click.v1.00000000",
    subject: str = "",
    flags: int = 0,
) -> Record:
    """Return a record with ``values`` as its fields; received at its own time if not said.

    Examples
    --------
    >>> make_record("1", 7) == make_record("1", 7), make_record("1", 7) == make_record("1", 8)
    (True, False)
    """
    body = msgspec.msgpack.encode(values)
    return Record(
        schema=schema,
        source=source,
        id=id,
        time=time,
        received=time if received is None else received,
        client_time=time,
        available=time if received is None else received,
        subject=subject,
        digest=hashlib.blake2b(body, digest_size=16).digest(),
        body=body,
        flags=flags,
    )
