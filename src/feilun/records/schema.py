"""What schema ids mean, as bytes that the log keeps for ever.

A record names its schema and holds its fields by place. The log keeps the names and types of every
schema that was ever declared to it, so that records can be read when their event has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import Conflict, CorruptData, InputError

SCHEMA_ID_LIMIT = 500
"""The most UTF-8 bytes of a schema id."""


class _Field(msgspec.Struct, array_like=True):
    name: str
    dtype: str
    optional: bool
    dim: int


class _Schema(msgspec.Struct, array_like=True):
    event: str
    version: int
    fields: list[_Field]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Schema).decode


def encode_schema(event: EventSpec) -> bytes:
    r"""Return the event's name, version and fields as bytes; equal shapes have equal bytes.

    Examples
    --------
    >>> click = EventSpec("click", 2, (FieldSpec("user", "int"),), subject=None)
    >>> encode_schema(click)
    b'\x93\xa5click\x02\x91\x94\xa4user\xa3int\xc2\x00'
    >>> decode_schema(encode_schema(click)) == click
    True
    """
    fields = [_Field(f.name, f.dtype, f.optional, f.dim) for f in event.fields]
    return _encode(_Schema(event.name, event.version, fields))


def decode_schema(raw: bytes) -> EventSpec:
    """Return the event that ``encode_schema`` wrote, without what does not shape its records.

    Raises
    ------
    CorruptData
        If the bytes are not a schema.
    """
    try:
        schema = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"These {len(raw)} bytes are not a schema: {error}") from error
    # A type that only a newer version knows stays a type that nothing here can read.
    fields: list[Any] = [FieldSpec(f.name, f.dtype, f.optional, f.dim) for f in schema.fields]  # type: ignore[arg-type]
    return EventSpec(schema.event, schema.version, tuple(fields), subject=None)


def schemas_of(events: Iterable[EventSpec]) -> dict[str, bytes]:
    """Return the schema ids of ``events`` with their meanings, for ``EventLog.declare``."""
    return {event.schema_id: encode_schema(event) for event in events}


def undeclared(
    schemas: Mapping[str, bytes], known: Callable[[str], bytes | None]
) -> dict[str, bytes]:
    """Return those of ``schemas`` that ``known`` does not have. Every log declares by this rule.

    Raises
    ------
    Conflict
        If one is known with another meaning.
    InputError
        If an id has not 1 to ``SCHEMA_ID_LIMIT`` bytes.
    """
    new: dict[str, bytes] = {}
    for schema_id, meaning in schemas.items():
        if not 0 < len(schema_id.encode()) <= SCHEMA_ID_LIMIT:
            raise InputError(
                f"A schema id has 1 to {SCHEMA_ID_LIMIT} bytes, not {len(schema_id.encode())}."
            )
        before = known(schema_id)
        if before is None:
            new[schema_id] = meaning
        elif before != meaning:
            raise Conflict(
                f"The schema {schema_id} is kept in the log with another meaning.",
                "Raise the version of the event, so that it gets an id of its own.",
            )
    return new
