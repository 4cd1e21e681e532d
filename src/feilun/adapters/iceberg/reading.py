"""Events read back: Parquet to the kernel's frames, in C++ but for one step a frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from feilun.adapters.iceberg import files, tables
from feilun.adapters.iceberg.columns import frame_schema, known_column, lake_type, to_frame
from feilun.aggregation.frames import EventFrame
from feilun.definitions.specs import FieldSpec
from feilun.errors import ConfigError
from feilun.ports.lake import Known
from feilun.records.record import LATE

FRAME_ROWS = 1 << 18
"""The most rows of one frame, and the fewest but for the last."""
_CHOOSERS = ("_offset", "_flags")


def frames(
    table: Table,
    state: Snapshot,
    fields: Sequence[FieldSpec],
    start: int,
    stop: int,
    *,
    known: Known,
) -> Iterator[EventFrame]:
    """Read the events of one snapshot at offsets ``[start, stop)``."""
    _check_types(table, fields)
    found = []
    for file in tables.files_of(table, state):
        first, last = files.offsets(file)
        if first < stop and last >= start:
            found.append(file.file_path)
    if not found:
        return
    schema = frame_schema(fields, known)
    wanted = [name for name in schema.names if name not in _CHOOSERS or name == known_column(known)]
    offset, flags = pc.field("_offset"), pc.field("_flags")
    late = pc.bit_wise_and(flags, pc.scalar(LATE))
    texts = [field.name for field in fields if field.dtype == "str"]
    format_ = ds.ParquetFileFormat(
        dictionary_columns=texts,
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(
            page_checksum_verification=True
        ),
    )
    scanner = ds.dataset(found, schema=schema, format=format_).scanner(
        columns=wanted,
        filter=(offset >= start) & (offset < stop) & (late == 0),
        batch_size=FRAME_ROWS,
        # Each batch that is read ahead is memory; two keep both the disk and us at work.
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in _together(scanner.to_batches()):
        yield to_frame(batch, fields, known)


def _together(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Put small batches together: a fold of few rows costs as much as one of many."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if rows + batch.num_rows > FRAME_ROWS and waiting:
            yield _joined(waiting)
            waiting, rows = [], 0
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
    if waiting:
        yield _joined(waiting)


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks()
    return table.to_batches()[0]


def _check_types(table: Table, fields: Sequence[FieldSpec]) -> None:
    stored = {f.name: lake_type(f.field_type) for f in table.schema().fields}
    for wanted in fields:
        have = stored.get(wanted.name, wanted.dtype)
        if have != wanted.dtype and (have, wanted.dtype) != ("int", "float"):
            raise ConfigError(
                f"The lake's table {tables.name_of(table)} has {wanted.name!r} as {have}, the "
                f"definitions have it as {wanted.dtype}.",
                "Give the field or the event another name.",
            )
