"""What schema ids mean, as bytes that the log keeps for ever.

A record names its schema and holds its fields by place. The log keeps the names and types of every
schema that was ever declared to it, so that records can be read when their event has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec

from feilun.definitions import evolution
from feilun.definitions.specs import EventSpec, FieldSpec, TableSpec
from feilun.errors import Conflict, CorruptData, DefinitionError, InputError

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
    subject: str = ""
    key: list[str] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Schema).decode


def encode_schema(event: EventSpec) -> bytes:
    r"""Return the event's name, version, fields, subject and key as bytes; equal ones are equal.

    The subject and the key of a table's rows are left away at the end where there are none.

    Examples
    --------
    >>> click = EventSpec("click", 2, (FieldSpec("user", "int"),), subject=None)
    >>> encode_schema(click)
    b'\x93\xa5click\x02\x91\x94\xa4user\xa3int\xc2\x00'
    >>> decode_schema(encode_schema(click)) == click
    True
    """
    fields = [_Field(f.name, f.dtype, f.optional, f.dim) for f in event.fields]
    schema: list[Any] = [event.name, event.version, fields]
    if event.subject or event.table:
        schema.append(event.subject or "")
    if event.table:
        schema.append(event.table.key)
    return _encode(schema)


def decode_schema(raw: bytes) -> EventSpec:
    """Return the event that ``encode_schema`` wrote, without what does not shape its records.

    Of a table there is no more than the key of its rows.

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
    table = TableSpec("", "", tuple(schema.key), "", (), None, 0) if schema.key else None
    return EventSpec(
        schema.event, schema.version, tuple(fields), subject=schema.subject or None, table=table
    )


def schemas_of(events: Iterable[EventSpec]) -> dict[str, bytes]:
    """Return the schema ids of ``events`` with their meanings, for ``EventLog.declare``."""
    return {event.schema_id: encode_schema(event) for event in events}


def stored_shapes(schemas: Mapping[str, bytes], stored: Collection[str]) -> dict[str, EventSpec]:
    """Return the shapes of which records were stored, by schema id.

    Parameters
    ----------
    schemas : mapping
        Schema id to meaning, as ``EventLog.schemas`` returns them.
    stored : collection of str
        The ids of which there are records, as ``EventLog.counts`` says.

    Raises
    ------
    CorruptData
        If the meaning of one cannot be read.
    """
    return {id: decode_schema(raw) for id, raw in schemas.items() if id in stored}


def refuse_incompatible(
    events: Iterable[EventSpec], schemas: Mapping[str, bytes], stored: Collection[str]
) -> None:
    """See that records of the events' earlier shapes can live together with new ones.

    Called before anything is declared, appended or folded. Takes what `stored_shapes` takes.

    Raises
    ------
    DefinitionError
        If an event has changed as none may; it lists every problem with the way out.
    CorruptData
        As `stored_shapes` does.
    """
    known = stored_shapes(schemas, stored)
    problems = [problem for event in events for problem in evolution.changes(known, event)]
    if problems:
        raise DefinitionError(problems)


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
