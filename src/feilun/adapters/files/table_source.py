"""`TableSource` on folders of CSV and Parquet files.

A file is read as a whole when it is new or has changed; its mark is its size and its time of
change. Rows of a changed file that were there before come again.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping
from glob import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feilun.adapters.files.table import Encoding, load_polars
from feilun.clock import SECOND
from feilun.errors import InputError, UnknownName
from feilun.ports.table_source import CHUNK_ROWS, Chunk, TableQuery, check_columns

if TYPE_CHECKING:
    from _csv import Reader

PLACE = "{table}"
"""What stands for the table's name in a source's path."""

_PARQUET = (".parquet", ".pq")
_RACY = 2 * SECOND
"""A file that changed this shortly before it was read may change again with the same mark."""
_BLOCK = 1 << 20
_MEND_CSV = "Mend the line, or write the file as Parquet."


class FilesTableSource:
    """Reads tables from files.

    Parameters
    ----------
    name : str
        What feilun.toml calls the source, for messages.
    path : str
        Where a table's files are, as a glob with ``{table}`` in it: ``exports/{table}/*.csv``.
        Files that end in ``.parquet`` or ``.pq`` are Parquet, all others CSV with a header.
    root : Path
        The folder to which a relative path belongs.
    encoding : {"auto", "utf-8", "gb18030"}
        Of CSV files. ``auto`` takes UTF-8 if every byte of a file fits it, else GB18030.
    """

    def __init__(self, name: str, path: str, root: Path, encoding: Encoding = "auto") -> None:
        self._name = name
        self._path = path
        self._root = root
        self._encoding: Encoding = encoding

    def read(self, query: TableQuery, marks: Mapping[str, str]) -> Iterator[Chunk]:
        """Return the rows of every file that is new or has changed, file by file.

        A file that cannot be read does not keep those after it from being read; what is wrong
        with it is raised at the end.
        """
        faults: list[InputError] = []
        for path in self._files(query.table):
            part = str(path)
            try:
                mark = _mark(path)
                if marks.get(part) != mark:
                    yield from self._read_file(path, query)
                    if _mark(path) == mark and not _is_racy(path, query.until):
                        yield Chunk((), part, mark)
            except OSError as error:
                faults.append(InputError(f"{path} cannot be read: {error.strerror or error}."))
            except InputError as error:
                faults.append(error)
        if faults:
            more = f" ({len(faults) - 1} more files cannot be used.)" if len(faults) > 1 else ""
            raise InputError(f"{faults[0].message}{more}", faults[0].hint)

    def _files(self, table: str) -> list[Path]:
        """Return the table's files, by name: exports are mostly named by their date."""
        pattern = Path(self._path.replace(PLACE, escape(table)))
        base = Path(pattern.anchor) if pattern.is_absolute() else self._root
        inside = str(pattern.relative_to(pattern.anchor))
        found = sorted(path for path in base.glob(inside) if path.is_file())
        if not found:
            raise UnknownName(
                f"The source {self._name} has no files of {table!r}.",
                f"They would be {base / inside}.",
            )
        return found

    def _read_file(self, path: Path, query: TableQuery) -> Iterator[Chunk]:
        read = self._parquet if path.suffix.lower() in _PARQUET else self._csv
        for rows in read(path, query):
            yield Chunk(rows, str(path), "")

    def _parquet(self, path: Path, query: TableQuery) -> Iterator[list[dict[str, Any]]]:
        pl = load_polars()
        try:
            names = check_columns(str(path), query, list(pl.read_parquet_schema(path)))
            frame = pl.scan_parquet(path, glob=False).select(names)
            for batch in frame.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
                for part in batch.iter_slices(CHUNK_ROWS):
                    yield part.to_dicts()
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"{path} is not Parquet that can be read: {str(error).splitlines()[0]}.",
                "Put a file in its place when it is complete: write it elsewhere, then rename it.",
            ) from error

    def _csv(self, path: Path, query: TableQuery) -> Iterator[list[dict[str, Any]]]:
        """Stream a CSV file. Empty cells are None; all others are text."""
        with path.open(encoding=_encoding(path, self._encoding), newline="") as lines:
            table = csv.reader(lines, strict=True)
            rows = _csv_rows(path, table, query)
            try:
                while chunk := list(islice(rows, CHUNK_ROWS)):
                    yield chunk
            except csv.Error as error:
                raise InputError(
                    f"{path}, line {table.line_num}, is not CSV: {error}.", _MEND_CSV
                ) from error
            except UnicodeDecodeError as error:
                raise _not_text(path, error.encoding) from error

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _csv_rows(path: Path, table: Reader, query: TableQuery) -> Iterator[dict[str, Any]]:
    """Read the header, then every line that is not empty."""
    header = next(table, None)
    if header is None:
        raise InputError(f"{path} is empty.", "Its first line must name the columns.")
    wanted = [(name, header.index(name)) for name in check_columns(str(path), query, header)]
    for cells in table:
        if cells and len(cells) != len(header):
            raise InputError(
                f"{path}, line {table.line_num}, has {len(cells)} cells where its header has "
                f"{len(header)}.",
                _MEND_CSV,
            )
        if cells:
            yield {name: cells[place] or None for name, place in wanted}


def _mark(path: Path) -> str:
    """Return what tells a file from its later states."""
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"


def _is_racy(path: Path, now: int) -> bool:
    """Whether a file changed so shortly before ``now`` (µs UTC) that it may change unseen."""
    return path.stat().st_mtime_ns // 1_000 > now - _RACY


def _encoding(path: Path, asked: Encoding) -> str:
    """Return the codec of a file's text; UTF-8 may begin with a byte order mark."""
    if asked == "gb18030":
        return asked
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise InputError(f"{path} is UTF-16.", "Save it as UTF-8 (in Excel: CSV UTF-8).")
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := file.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            if asked == "utf-8":
                raise _not_text(path, asked) from error
            return "gb18030"
    return "utf-8-sig"


def _not_text(path: Path, encoding: str) -> InputError:
    return InputError(f"{path} is not {encoding} text.", "Save it as UTF-8 CSV, or as Parquet.")
