"""The lake on Iceberg: what the port promises, told in the steps of the rooms beside it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from feilun.adapters.iceberg import erasure, files, reading, tables, upkeep
from feilun.adapters.iceberg.columns import to_arrow
from feilun.aggregation.frames import EventFrame
from feilun.definitions.specs import EventSpec
from feilun.errors import ConfigError, InputError, UnknownName
from feilun.ports.lake import (
    Deleted,
    Known,
    LakeTable,
    Maintained,
    Rows,
    TableStatus,
    event_table,
)

_LOCK = "lock"
_NAMES = "feilun"
"""The namespace whose properties say which snapshots have names."""
_NAME = "snapshot:"


class IcebergLake:
    """A ``Lake`` in a folder: ``catalog.db`` and a folder for each table.

    Parameters
    ----------
    path : Path
        Its folder, made if absent; on a local disk. Iceberg writes absolute paths down, so that
        the folder cannot be moved.

    Raises
    ------
    ConfigError
        If the folder cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            (self._path / _LOCK).touch(mode=0o600)
        except OSError as error:
            raise ConfigError(
                f"The lake's folder {path} cannot be opened: {error.strerror}.",
                "Give yourself the right to write there.",
            ) from error
        with tables.translated("Opening the lake"):
            self._catalog = SqlCatalog(
                "feilun",
                **{
                    "uri": f"sqlite:///{self._path / 'catalog.db'}",
                    "warehouse": str(self._path),
                    "py-io-impl": f"{files.SyncedFileIO.__module__}.{files.SyncedFileIO.__name__}",
                },
            )

    def archived(self) -> int:
        """Return the offset below which every record of the log is in the lake."""
        with tables.translated("Looking at the lake"):
            return tables.whole_of(table.current_snapshot() for table in self._tables())

    def append(self, start: int, stop: int, chunks: Iterable[Rows]) -> int:
        """Write the records at offsets ``[start, stop)``; return how many rows were new."""
        if not 0 <= start <= stop:
            raise InputError(f"[{start}, {stop}) are no offsets.")
        with tables.translated("Writing to the lake"), self._exclusive():
            work = _Append(start, stop)
            try:
                for rows in chunks:
                    self._take(work, rows)
                for pending in work.pending.values():
                    pending.flush()
            except BaseException:
                for pending in work.pending.values():
                    files.remove(pending.files)
                raise
            return self._commit(work)

    def _take(self, work: _Append, rows: Rows) -> None:
        """Keep the rows that are new to their table; write them out when they are many."""
        pending = work.pending.get(rows.table.name)
        if pending is None:
            table = self._load(rows.table.name) or tables.create(self._catalog, rows.table.name)
            begin = max(work.start, tables.archived_of(table))
            pending = work.pending[rows.table.name] = _Pending(table, begin)
        if rows.table not in pending.shapes:
            pending.flush()
            tables.evolve(pending.table, rows.table)
            pending.shapes.add(rows.table)
        offsets = rows.columns["_offset"].values
        if len(offsets) and not work.start <= offsets.min() <= offsets.max() < work.stop:
            raise InputError(
                f"Rows of {rows.table.name} are not at offsets [{work.start}, {work.stop})."
            )
        batch = to_arrow(rows)
        if pending.begin > work.start:
            batch = batch.filter(pc.greater_equal(batch.column("_offset"), pending.begin))
        pending.add(batch)

    def _commit(self, work: _Append) -> int:
        """Commit table after table; the last commit says that all are whole.

        A commit that fails may have been made all the same, so its files stay: if no snapshot
        names them, the next upkeep removes them.
        """
        changed = [pending for pending in work.pending.values() if pending.files]
        for pending in changed:
            whole = work.stop if pending is changed[-1] else work.start
            notes = {tables.ARCHIVED: str(work.stop), tables.WHOLE: str(whole)}
            tables.commit(pending.table, pending.files, notes=notes)
        return sum(pending.rows for pending in changed)

    def frames(
        self,
        event: EventSpec,
        start: int = 0,
        stop: int | None = None,
        *,
        fields: Sequence[str] | None = None,
        known: Known = "offset",
        snapshot: str = "",
    ) -> Iterator[EventFrame]:
        """Read the events at offsets ``[start, stop)``, in any order, late ones left out."""
        wanted = [f for f in event.fields if fields is None or f.name in fields]
        with tables.translated("Reading the lake"):
            if snapshot and snapshot not in self._names():
                raise UnknownName(f"The lake has no snapshot named {snapshot!r}.")
            if stop is None:
                stop = self._names()[snapshot] if snapshot else self.archived()
            table = self._load(event_table(event).name)
            state = None if table is None else table.snapshot_by_name(snapshot or tables.MAIN)
            if table is None or state is None:
                return
            yield from reading.frames(table, state, wanted, start, stop, known=known)

    def name_snapshot(self, name: str) -> int:
        """Keep the newest state of every table under ``name``; return what is archived in it."""
        if name in ("", tables.MAIN, erasure.BRANCH):
            raise InputError(f"A snapshot cannot be named {name!r}.")
        with tables.translated("Naming a snapshot"), self._exclusive():
            known = self._names().get(name)
            if known is not None:
                return known
            found = self._tables()
            for table in found:
                with table.manage_snapshots() as manage:
                    if name in table.refs():  # of a call that was stopped before it was done
                        manage.remove_tag(name)
                    if (newest := table.current_snapshot()) is not None:
                        manage.create_tag(newest.snapshot_id, name)
            whole = tables.whole_of(table.current_snapshot() for table in found)
            self._catalog.create_namespace_if_not_exists(_NAMES)
            self._catalog.update_namespace_properties(_NAMES, updates={_NAME + name: str(whole)})
            return whole

    def forget_snapshot(self, name: str) -> None:
        """Let a named state go; its bytes go with the next `maintain`."""
        with tables.translated("Forgetting a snapshot"), self._exclusive():
            if name in self._names():
                self._catalog.update_namespace_properties(_NAMES, removals={_NAME + name})
            for table in self._tables():
                if name in tables.names_of(table):
                    with table.manage_snapshots() as manage:
                        manage.remove_tag(name)

    def maintain(self, now: int) -> Maintained:
        """Rewrite closed days of many files; remove what is older than 48 h and not named."""
        total = Maintained(0, 0, 0)
        with tables.translated("Tidying the lake"):
            for name in [tables.name_of(table) for table in self._tables()]:
                with self._exclusive():  # anew for each, so that an append may come between
                    table = self._load(name)
                    if table is not None:
                        done = upkeep.maintain(table, now)
                        total = Maintained(*(a + b for a, b in zip(total, done, strict=True)))
        return total

    def subjects(self) -> Iterator[str]:
        """Return whom rows are about, in every table and snapshot; some may come several times."""
        with tables.translated("Reading the lake"):
            for table in self._tables():
                yield from erasure.subjects(table)

    def delete_subject(self, subject: str, before: int) -> Deleted:
        """Remove every row about ``subject`` of a time before ``before`` (µs), and its bytes."""
        if not subject:
            raise InputError("A subject is written as entity=value.")
        with tables.translated("Erasing from the lake"), self._exclusive():
            done = [erasure.delete_subject(table, subject, before) for table in self._tables()]
        names = sorted({name for one in done for name in one.names})
        return Deleted(sum(one.rows for one in done), tuple(names))

    def tables(self) -> list[TableStatus]:
        """Return how every table stands, by name."""
        with tables.translated("Looking at the lake"):
            return [_status(table) for table in self._tables()]

    def close(self) -> None:
        """Close the catalogue."""
        self._catalog.close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Be the only writer, of all processes."""
        fd = os.open(self._path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _tables(self) -> list[Table]:
        names = [
            ".".join(name)
            for namespace in self._catalog.list_namespaces()
            for name in self._catalog.list_tables(namespace)
        ]
        return [table for name in sorted(names) if (table := self._load(name)) is not None]

    def _load(self, name: str) -> Table | None:
        try:
            table = self._catalog.load_table(name)
        except NoSuchTableError:
            return None
        except FileNotFoundError as error:
            raise self._moved() from error
        tables.check_format(table)
        if Path(table.location()).parent.parent != self._path:
            raise self._moved()
        return table

    def _moved(self) -> ConfigError:
        return ConfigError(
            f"The lake in {self._path} was moved or lost files: Iceberg writes absolute paths.",
            "Put it back where it was, or remove the folder: it is written again from the log.",
        )

    def _names(self) -> dict[str, int]:
        """Return the names of snapshots, each with what was archived then.

        A name is written down when every table has it, and given up before the first loses it: so
        it means the same state of all tables, or nothing.
        """
        if not self._catalog.namespace_exists(_NAMES):
            return {}
        noted = self._catalog.load_namespace_properties(_NAMES)
        return {
            key.removeprefix(_NAME): int(whole)
            for key, whole in noted.items()
            if key.startswith(_NAME)
        }


@dataclass
class _Pending:
    """One table's part of an append: batches not yet written, files not yet committed."""

    table: Table
    begin: int
    shapes: set[LakeTable] = field(default_factory=set)
    batches: list[pa.RecordBatch] = field(default_factory=list)
    waiting: int = 0
    files: list[DataFile] = field(default_factory=list)
    rows: int = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep a batch; write a file when there is enough for one."""
        if batch.num_rows:
            self.batches.append(batch)
            self.waiting += batch.num_rows
        if self.waiting >= files.FILE_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self.batches:
            rows = pa.Table.from_batches(self.batches)
            self.batches, self.waiting = [], 0
            self.files += files.write(self.table.io, self.table.metadata, rows)
            self.rows += rows.num_rows


@dataclass
class _Append:
    """One append in progress."""

    start: int
    stop: int
    pending: dict[str, _Pending] = field(default_factory=dict)


def _status(table: Table) -> TableStatus:
    newest = table.current_snapshot()
    summary = {} if newest is None or newest.summary is None else newest.summary
    on_disk = sum(p.stat().st_size for p in Path(table.location()).rglob("*") if p.is_file())
    return TableStatus(
        name=tables.name_of(table),
        rows=int(summary.get("total-records", 0)),
        files=int(summary.get("total-data-files", 0)),
        bytes=on_disk,
        snapshots=len(table.snapshots()),
        archived=tables.archived_of(table),
        metadata=table.metadata_location,
    )
