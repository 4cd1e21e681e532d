"""Columns of the lake: as Iceberg declares them, as Arrow holds them, as frames carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    FloatType,
    IcebergType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from feilun.aggregation.frames import Array, Column, EventFrame
from feilun.definitions.specs import DType, FieldSpec
from feilun.errors import ConfigError, CorruptData
from feilun.ports.lake import ENVELOPE, Known, LakeField, LakeType, Rows

TIME = pa.timestamp("us", tz="UTC")
_ARROW: Mapping[LakeType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "time": TIME,
}
_ICEBERG: Mapping[LakeType, IcebergType] = {
    "int": LongType(),
    "float": DoubleType(),
    "bool": BooleanType(),
    "str": StringType(),
    "bytes": BinaryType(),
    "time": TimestamptzType(),
}
_ELEMENTS: Mapping[LakeType, tuple[pa.DataType, IcebergType, type]] = {
    "vector": (pa.float64(), DoubleType(), np.float64),
    "vector32": (pa.float32(), FloatType(), np.float32),
}
_FIELD_ID = b"PARQUET:field_id"
_FILLERS: Mapping[DType, Any] = {"int": 0, "float": 0.0, "bool": False}


ENVELOPE_IDS = {field.name: number for number, field in enumerate(ENVELOPE, 1)}
"""The field ids of the columns that every table has."""


def first_schema() -> Schema:
    """Return the columns that every table has."""
    return Schema(
        *(
            NestedField(ENVELOPE_IDS[field.name], field.name, _ICEBERG[field.type], required=True)
            for field in ENVELOPE
        )
    )


def iceberg_type(type_: LakeType) -> IcebergType:
    """Return the type of a column; an element's id is given when the column gets its own."""
    if type_ in _ELEMENTS:
        return ListType(element_id=-1, element_type=_ELEMENTS[type_][1], element_required=True)
    return _ICEBERG[type_]


def lake_type(type_: IcebergType) -> LakeType:
    """Return what the lake calls the type of a stored column.

    Raises
    ------
    ConfigError
        If the lake never makes such columns: another program added one.
    """
    if isinstance(type_, ListType):
        return "vector" if isinstance(type_.element_type, DoubleType) else "vector32"
    for name, known in _ICEBERG.items():
        if known == type_:
            return name
    raise ConfigError(
        f"The lake has a column of type {type_}, which is none of its own.",
        "Another program added it; drop the column there.",
    )


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return a table's columns as Arrow's, with the field ids that Parquet files carry."""
    return pa.schema([_arrow_field(field) for field in schema.fields])


def _arrow_field(field: NestedField) -> pa.Field:
    kind = lake_type(field.field_type)
    if isinstance(field.field_type, ListType):
        element = pa.field(
            "element",
            _ELEMENTS[kind][0],
            nullable=False,
            metadata={_FIELD_ID: str(field.field_type.element_id)},
        )
        arrow: pa.DataType = pa.list_(element)
    else:
        arrow = _ARROW[kind]
    metadata = {_FIELD_ID: str(field.field_id)}
    return pa.field(field.name, arrow, nullable=not field.required, metadata=metadata)


def _arrow_type(type_: LakeType) -> pa.DataType:
    return pa.list_(_ELEMENTS[type_][0]) if type_ in _ELEMENTS else _ARROW[type_]


def field_ids(schema: pa.Schema) -> dict[str, int]:
    """Return the field ids that a Parquet file carries, by column."""
    return {field.name: int((field.metadata or {}).get(_FIELD_ID, -1)) for field in schema}


def to_arrow(rows: Rows) -> pa.RecordBatch:
    """Return rows as Arrow's columns."""
    fields = [*ENVELOPE, *rows.table.fields]
    arrays = [_to_array(field, rows.columns[field.name]) for field in fields]
    return pa.RecordBatch.from_arrays(arrays, [field.name for field in fields])


def _to_array(field: LakeField, column: Column) -> pa.Array:
    mask = None if column.present.all() else ~column.present
    if field.type in _ELEMENTS:
        return _to_lists(_ELEMENTS[field.type], column, mask)
    if field.type == "time":
        return pa.array(column.values, pa.int64(), mask=mask).cast(TIME)
    return pa.array(column.values, _ARROW[field.type], mask=mask)


def _to_lists(
    element: tuple[pa.DataType, IcebergType, type], column: Column, mask: Array | None
) -> pa.Array:
    arrow, _, numpy = element
    values: Array = column.values
    if values.ndim == 2:
        bounds = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        flat = values.reshape(-1)
    else:
        parts: list[Array] = [
            np.asarray(value if here else (), numpy)
            for value, here in zip(values, column.present, strict=True)
        ]
        lengths = [0, *(len(part) for part in parts)]
        bounds = np.cumsum(lengths, dtype=np.int32)
        flat = np.concatenate([np.empty(0, numpy), *parts])
    mask_array = None if mask is None else pa.array(mask)
    type_ = pa.list_(pa.field("element", arrow, nullable=False))
    return pa.ListArray.from_arrays(
        pa.array(bounds), pa.array(flat, arrow), type=type_, mask=mask_array
    )


def conform(batch: pa.RecordBatch | pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with exactly the columns of ``schema``; what they lack is missing."""
    names = set(batch.schema.names)
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def frame_schema(fields: Iterable[FieldSpec], known: Known) -> pa.Schema:
    """Return the columns that a frame of these fields is made of, and what its rows are chosen by.

    Text comes as dictionaries: most of it repeats.
    """
    texts = pa.dictionary(pa.int32(), pa.string())
    own = [(f.name, texts if f.dtype == "str" else _arrow_type(f.dtype)) for f in fields]
    envelope = {"_time": TIME, "_tie": pa.int64(), "_offset": pa.int64(), "_flags": pa.int64()}
    if known == "available":
        envelope["_available"] = TIME
    return pa.schema([*envelope.items(), *own])


def to_frame(batch: pa.RecordBatch, fields: Iterable[FieldSpec], known: Known) -> EventFrame:
    """Return rows as the kernel takes them, without a loop over them."""
    return EventFrame(
        time=_whole(batch.column("_time")),
        tie=_whole(batch.column("_tie")).view(np.uint64),
        known=_whole(batch.column(known_column(known))),
        columns={field.name: _to_column(field, batch.column(field.name)) for field in fields},
    )


def known_column(known: Known) -> str:
    """Return the column that a frame's ``known`` is taken from."""
    return "_offset" if known == "offset" else "_available"


def _whole(array: pa.Array) -> Array:
    return np.asarray(array.cast(pa.int64()).to_numpy())


def _to_column(field: FieldSpec, array: pa.Array) -> Column:
    whole = array.null_count == 0
    present = np.ones(len(array), np.bool_) if whole else _valid(array)
    if field.dtype == "str":
        return Column(_to_texts(array, whole), present)
    if field.dtype == "vector":
        return Column(_to_matrix(field, array, present), present)
    if not whole:
        array = array.fill_null(_FILLERS[field.dtype])
    values = array.to_numpy(zero_copy_only=False)
    return Column(values, present)


def _valid(array: pa.Array) -> Array:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _to_texts(array: pa.Array, whole: bool) -> Array:
    """Return text as objects: one for each different value of a batch, not for each row."""
    values = array.dictionary.to_numpy(zero_copy_only=False).astype(object, copy=False)
    if not len(values):
        return np.full(len(array), "", object)
    indices = array.indices if whole else array.indices.fill_null(0)
    return np.asarray(values[indices.to_numpy()])


def _to_matrix(field: FieldSpec, array: pa.Array, present: Array) -> Array:
    flat = array.flatten().to_numpy(zero_copy_only=False)
    count = int(present.sum())
    if (
        len(flat) != count * field.dim
        or (array.value_lengths().drop_null().to_numpy() != field.dim).any()
    ):
        raise CorruptData(
            f"The lake has vectors of {field.name!r} that have not {field.dim} numbers.",
            "Give the field that has other vectors a name of its own.",
        )
    if count == len(array):
        return np.asarray(flat.reshape(count, field.dim))
    matrix = np.zeros((len(array), field.dim), np.float64)
    matrix[present] = flat.reshape(count, field.dim)
    return matrix
