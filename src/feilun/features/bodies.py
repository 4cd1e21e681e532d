"""The bodies of records: how each shape of an event is read, and its values as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from feilun.aggregation.frames import Array, Column
from feilun.definitions.specs import DType, EventSpec, FieldSpec, Project
from feilun.records.schema import decode_schema

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
"""What reading a body raises when it is not what its schema says."""

_WIRE: Mapping[str, Any] = {
    # MessagePack has unsigned integers above int64; a column has not.
    "int": Annotated[int, msgspec.Meta(le=2**63 - 1)],
    "float": float,
    "str": str,
    "bool": bool,
}
_ARRAY: Mapping[DType, Any] = {
    "int": np.int64,
    "float": np.float64,
    "str": object,
    "bool": np.bool_,
    "vector": np.float64,
}
_FILLER: Mapping[DType, Any] = {"int": 0, "float": 0.0, "str": "", "bool": False}


class BodySchema(NamedTuple):
    """How bodies of one shape are read as rows of an event.

    Attributes
    ----------
    event : EventSpec
        The event as it is now.
    read : callable
        One body to a row.
    read_all : callable
        A MessagePack array of bodies to rows.
    fields : tuple
        For each field of the event its place in a row, and whether it may be None there; None if
        the shape lacks the field.
    """

    event: EventSpec
    read: Callable[[bytes], tuple[Any, ...]]
    read_all: Callable[[bytes], list[tuple[Any, ...]]]
    fields: tuple[tuple[int, bool] | None, ...]

    def columns(self, rows: Sequence[tuple[Any, ...]]) -> list[Column]:
        """Return a column for each field of the event."""
        values = list(zip(*rows, strict=True))
        columns = []
        for field, stored in zip(self.event.fields, self.fields, strict=True):
            if stored is None or not rows:
                columns.append(absent(field, len(rows)))
            else:
                place, optional = stored
                columns.append(_column(field, values[place], optional))
        return columns


def body_schemas(project: Project, history: Mapping[str, bytes]) -> dict[str, BodySchema]:
    """Return by schema id how the bodies of the project's events are read.

    Known are the ids of each event as it is now, and of its earlier shapes: the same fields
    without optional ones at the end, under the same version or an earlier one. Others are read by
    the names of their fields, where ``history`` says what they are.

    Raises
    ------
    CorruptData
        If a meaning in ``history`` cannot be read.
    """
    schemas = {
        shape.schema_id: _schema(event, shape)
        for event in project.events.values()
        for shape in _shapes(event)
    }
    for schema_id, meaning in history.items():
        shape = decode_schema(meaning)
        event = project.events.get(shape.name)
        if event is not None and schema_id not in schemas and _readable(shape, event):
            schemas[schema_id] = _schema(event, shape)
    return schemas


def stored_schema(shape: EventSpec) -> BodySchema:
    """Return how bodies of one shape are read as rows of that shape, whatever the event is now."""
    return _schema(shape, shape)


def absent(field: FieldSpec, rows: int) -> Column:
    """Return the column of a field that none of so many rows has."""
    shape = (rows, field.dim) if field.dtype == "vector" else rows
    filler = _FILLER.get(field.dtype, 0.0)
    return Column(np.full(shape, filler, _ARRAY[field.dtype]), np.zeros(rows, np.bool_))


def _shapes(event: EventSpec) -> Iterable[EventSpec]:
    fields = event.fields
    while True:
        for version in range(1, event.version + 1):
            yield replace(event, version=version, fields=fields)
        if not fields or not fields[-1].optional:
            return
        fields = fields[:-1]


def _readable(shape: EventSpec, event: EventSpec) -> bool:
    """Whether every field of the event that the shape has can stand for what it is now."""
    before = {field.name: field for field in shape.fields}
    pairs = [(before[field.name], field) for field in event.fields if field.name in before]
    return all(
        (old.dtype, old.dim) == (new.dtype, new.dim) or (old.dtype, new.dtype) == ("int", "float")
        for old, new in pairs
    )


def _schema(event: EventSpec, shape: EventSpec) -> BodySchema:
    wire = [_wire(field) for field in shape.fields]
    row: Any = tuple.__class_getitem__(tuple(wire))
    rows: Any = list.__class_getitem__(row)
    places = {field.name: (place, field.optional) for place, field in enumerate(shape.fields)}
    return BodySchema(
        event,
        msgspec.msgpack.Decoder(row).decode,
        msgspec.msgpack.Decoder(rows).decode,
        tuple(places.get(field.name) for field in event.fields),
    )


def _wire(field: FieldSpec) -> Any:
    if field.dtype == "vector":
        wire: Any = Annotated[list[float], msgspec.Meta(min_length=field.dim, max_length=field.dim)]
    else:
        wire = _WIRE.get(field.dtype, Any)  # a newer version's type, in a field that is dropped
    return wire | None if field.optional else wire


def _column(field: FieldSpec, values: tuple[Any, ...], optional: bool) -> Column:
    rows = len(values)
    present = np.ones(rows, np.bool_)
    if optional and None in values:
        present = np.array([value is not None for value in values], np.bool_)
        filler = [0.0] * field.dim if field.dtype == "vector" else _FILLER[field.dtype]
        values = tuple([filler if value is None else value for value in values])
    return Column(_array(field, values, rows), present)


def _array(field: FieldSpec, values: tuple[Any, ...], rows: int) -> Array:
    if field.dtype == "vector":
        numbers = np.fromiter(chain.from_iterable(values), np.float64, rows * field.dim)
        return numbers.reshape(rows, field.dim)
    if field.dtype == "str":
        return np.array(values, object)
    return np.fromiter(values, _ARRAY[field.dtype], rows)
