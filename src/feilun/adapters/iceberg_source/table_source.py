"""`TableSource` on an Iceberg catalog.

A read is one scan from the watermark on, less the lookback; Iceberg's statistics spare it the
files that hold older rows only. A scan has no order, so its mark comes with its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from feilun.errors import FeilunError, MissingExtra, Unavailable
from feilun.ports.table_source import (
    CHUNK_ROWS,
    Chunk,
    TableQuery,
    check_columns,
    unknown_table,
)
from feilun.records.times import to_time, to_time_like

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table

_PART = "rows"
_SECRET_WORDS = ("uri", "pass", "secret", "token", "credential", "key")
"""A property with one of these in its name holds something to hide."""
_EPOCH = datetime(1970, 1, 1)
_SAMPLES: Mapping[str, Any] = {
    "timestamptz": _EPOCH.replace(tzinfo=UTC),
    "timestamp": _EPOCH,
    "date": date(1970, 1, 1),
    "long": 0,
}
"""A time of each type of column that rows can be chosen by; of others all rows are read."""


class IcebergTableSource:
    """Reads tables of one catalog.

    Parameters
    ----------
    name : str
        What feilun.toml calls the source, for messages.
    catalog : str
        The catalog's own name.
    properties : mapping
        PyIceberg's own properties of the catalog: ``type``, ``uri``, ``warehouse`` and so on.
        They are never shown: some may be secret.

    Raises
    ------
    MissingExtra
        If PyIceberg is not installed.
    Unavailable
        If the catalog cannot be opened.
    """

    def __init__(self, name: str, catalog: str, properties: Mapping[str, str]) -> None:
        try:
            import pyiceberg.catalog
        except ImportError as error:
            raise MissingExtra("pyiceberg", "lake") from error
        self._name = name
        self._secrets = [value for key, value in properties.items() if value and _is_secret(key)]
        with self._errors("the catalog was opened"):
            self._catalog: Catalog = pyiceberg.catalog.load_catalog(catalog, **properties)

    def read(self, query: TableQuery, marks: Mapping[str, str]) -> Iterator[Chunk]:
        """Return the rows from the watermark on, in any order."""
        with self._errors(f"{query.table} was read"):
            table = self._load(query.table)
            names = check_columns(self._name, query, [f.name for f in table.schema().fields])
            scan = table.scan(
                row_filter=_filter(table, query, marks.get(_PART)), selected_fields=names
            )
            batches = scan.to_arrow_batch_reader()
        zone = ZoneInfo(query.timezone)
        newest = int(marks.get(_PART, 0))
        while True:
            with self._errors(f"{query.table} was read"):
                batch = next(batches, None)
            if batch is None:
                break
            for at in range(0, batch.num_rows, CHUNK_ROWS):
                rows = batch.slice(at, CHUNK_ROWS).to_pylist()
                newest = max([newest, *(_time(row[query.time], zone) for row in rows)])
                yield Chunk(rows, _PART, "")
        yield Chunk((), _PART, str(newest))

    def _load(self, name: str) -> Table:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        known = []
        if "." in name:  # tables lie in namespaces
            try:
                return self._catalog.load_table(name)
            except (NoSuchTableError, NoSuchNamespaceError):
                pass
        for space in self._catalog.list_namespaces():
            known += [".".join(table) for table in self._catalog.list_tables(space)]
        raise unknown_table(self._name, name, known)

    def close(self) -> None:
        """Give back what the catalog holds."""
        self._catalog.close()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FeilunError:
            raise
        except Exception as error:  # what is raised depends on the catalog and on the storage
            reason = self._hidden(" ".join(str(error).split()))[:500]
            raise Unavailable(
                f"The source {self._name} failed while {doing}: {type(error).__name__}: {reason}",
                f"It is tried again; see [sources.{self._name}] and that its storage answers.",
            ) from (error if self._hidden(str(error)) == str(error) else None)

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _is_secret(property: str) -> bool:
    return any(word in property.lower() for word in _SECRET_WORDS)


def _filter(table: Table, query: TableQuery, mark: str | None) -> BooleanExpression:
    """Choose the rows from the watermark on and up to now, and those that have no time."""
    from pyiceberg import expressions

    iceberg: Any = expressions  # their types know no positional arguments, and their examples do
    sample = _SAMPLES.get(str(table.schema().find_type(query.time)))
    if sample is None:
        return expressions.AlwaysTrue()
    zone = ZoneInfo(query.timezone)
    until = to_time_like(sample, query.until, zone)
    chosen: BooleanExpression = iceberg.LessThanOrEqual(query.time, until)
    if mark is not None:
        after = to_time_like(sample, max(int(mark) - query.lookback, 0), zone)
        chosen = expressions.And(chosen, iceberg.GreaterThanOrEqual(query.time, after))
    return expressions.Or(iceberg.IsNull(query.time), chosen)


def _time(value: Any, zone: ZoneInfo) -> int:
    """Return a row's time, or 0 where it is none: the sync says what is wrong with it."""
    try:
        return to_time(value, zone)
    except ValueError:
        return 0
