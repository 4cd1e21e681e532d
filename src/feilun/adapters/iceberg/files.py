"""The files of the lake: Parquet that is on the disk before a commit names it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO, OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO, parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata

from feilun.adapters.iceberg.columns import ENVELOPE_IDS, arrow_schema, conform, field_ids
from feilun.aggregation.frames import Array
from feilun.clock import DAY, to_iso
from feilun.disk import sync_folder

FILE_ROWS = 1 << 20
"""The most rows of one file: what a compaction or an erasure holds in memory at once."""
COMPRESSION = "zstd"
_GROUP_ROWS = 1 << 18
_LEVEL = 1
"""Of Zstandard: level 3 takes longer and saves nothing of such columns."""
_UNIQUE = ("_id", "_tie")
"""Columns of which hardly two values are the same: a dictionary would only be in the way."""


class _SyncedStream:
    """A file that is on the disk once it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("wb")

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            sync_folder(self._path.parent)

    def __enter__(self) -> _SyncedStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _SyncedFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        if not overwrite and self.exists():
            raise FileExistsError(f"{self.location} exists already")
        path = Path(self.location)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _SyncedStream(path)


class SyncedFileIO(PyArrowFileIO):
    """Local files that are on the disk once written, so that no commit names what a crash takes."""

    def new_output(self, location: str) -> PyArrowFile:
        """Return a file to write at ``location``, a path."""
        file = super().new_output(location)
        return _SyncedFile(location, file._path, file._filesystem)


def write(io: FileIO, metadata: TableMetadata, rows: pa.Table) -> Iterator[DataFile]:
    """Write rows to new files of a table, sorted by time, a day or less in each.

    The files belong to no snapshot yet. The rows have the table's columns, maybe not all.
    """
    rows = _sorted(conform(rows, arrow_schema(metadata.schema())))
    days = _numbers(rows, "_time") // DAY
    cuts = np.flatnonzero(np.diff(days)) + 1
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(days)], strict=True):
        for at in range(begin, end, FILE_ROWS):
            part = rows.slice(at, min(FILE_ROWS, end - at))
            path = _write_one(metadata.location, part, int(days[begin]))
            yield parquet_file_to_data_file(io, metadata, str(path))


def read(metadata: TableMetadata, file: DataFile) -> pa.Table:
    """Return all rows of a file with the table's columns.

    Raises
    ------
    OSError
        If a page fails its checksum: what is damaged must not be written anew as if it were whole.
    """
    with pq.ParquetFile(file.file_path, page_checksum_verification=True) as found:
        return conform(found.read(), arrow_schema(metadata.schema()))


def is_stale(metadata: TableMetadata, file: DataFile) -> bool:
    """Return whether a file has a column under an id that the table's schema no longer has."""
    wanted = field_ids(arrow_schema(metadata.schema()))
    own = field_ids(pq.read_schema(file.file_path))
    return any(wanted.get(name) != number for name, number in own.items())


def offsets(file: DataFile) -> tuple[int, int]:
    """Return the smallest and the largest offset in a file."""
    return _bounds(file, "_offset")


def times(file: DataFile) -> tuple[int, int]:
    """Return the smallest and the largest time in a file, µs."""
    return _bounds(file, "_time")


def _bounds(file: DataFile, column: str) -> tuple[int, int]:
    number = ENVELOPE_IDS[column]
    ends = (file.lower_bounds[number], file.upper_bounds[number])
    low, high = (int.from_bytes(end, "little", signed=True) for end in ends)
    return low, high


def remove(files: list[DataFile]) -> None:
    """Remove files that no snapshot came to name."""
    for file in files:
        Path(file.file_path).unlink(missing_ok=True)


def _sorted(rows: pa.Table) -> pa.Table:
    times = _numbers(rows, "_time")
    if len(times) < 2 or (np.diff(times) >= 0).all():
        return rows
    return rows.take(pa.array(np.argsort(times, kind="stable")))


def _numbers(rows: pa.Table, column: str) -> Array:
    return np.asarray(rows.column(column).cast(pa.int64()).to_numpy())


def _write_one(location: str, rows: pa.Table, day: int) -> Path:
    folder = Path(location, "data", f"_day={to_iso(day * DAY)[:10]}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4()}.parquet"
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in rows.schema if _grows_slowly(field)}
    with path.open("xb") as file:
        pq.write_table(
            rows,
            file,
            row_group_size=_GROUP_ROWS,
            compression=COMPRESSION,
            compression_level=_LEVEL if COMPRESSION == "zstd" else None,
            use_dictionary=[
                name for name in rows.schema.names if name not in (*encodings, *_UNIQUE)
            ],
            column_encoding=encodings,
            write_page_checksum=True,  # Zstandard lets nine flipped bits in ten pass
        )
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return path


def _grows_slowly(field: pa.Field) -> bool:
    return bool(field.name == "_offset" or pa.types.is_timestamp(field.type))
