"""Erasure from one table: no snapshot, named or not, keeps a row of the subject, nor any file."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from feilun.adapters.iceberg import files, tables, upkeep
from feilun.ports.lake import Deleted

BRANCH = "feilun-erasure"
"""Where a named snapshot is made anew before its name moves."""


def delete_subject(table: Table, subject: str) -> Deleted:
    """Take the rows of a subject out of every snapshot of a table.

    A crash at any point leaves the table readable, and a second call does the rest: names move
    one by one to snapshots without the rows, and only then what holds them is removed.
    """
    if BRANCH in table.refs():  # a call before this one was stopped here
        with table.manage_snapshots() as manage:
            manage.remove_branch(BRANCH)
    states = {
        one.snapshot_id: {file.file_path: file for file in tables.files_of(table, one)}
        for one in table.snapshots()
    }
    holders = _holders({path for state in states.values() for path in state}, subject)
    rows, names = 0, []
    renewed: dict[str, list[DataFile]] = {}
    if holders:
        for name, snapshot_id in [(tables.MAIN, _head(table)), *tables.names_of(table).items()]:
            state = states.get(snapshot_id, {})
            held = [file for path, file in state.items() if path in holders]
            if not held:
                continue
            if name == tables.MAIN:
                rows = sum(file.record_count for file in held)
            # A new snapshot has the newest schema, so what it holds must have it too.
            stale = [
                file
                for path, file in state.items()
                if path not in holders and files.is_stale(table.metadata, file)
            ]
            for file in (*held, *stale):
                if file.file_path not in renewed:
                    renewed[file.file_path] = _without(table, file, subject)
            added = [new for file in (*held, *stale) for new in renewed[file.file_path]]
            if name == tables.MAIN:
                rows -= sum(new.record_count for file in held for new in renewed[file.file_path])
            else:
                names.append(name)
            _move(table, name, snapshot_id, added, [*held, *stale])
        kept = {ref.snapshot_id for ref in table.refs().values()}
        upkeep.forget(
            table,
            [
                one
                for one, state in states.items()
                if one not in kept and not holders.isdisjoint(state)
            ],
        )
    upkeep.sweep(table)
    return Deleted(rows, tuple(names))


def _head(table: Table) -> int:
    newest = table.current_snapshot()
    return -1 if newest is None else newest.snapshot_id


def _holders(paths: Collection[str], subject: str) -> set[str]:
    """Return the files that hold rows of the subject; only that column of them is read."""
    if not paths:
        return set()
    scanner = ds.dataset(sorted(paths), format="parquet").scanner(
        columns=["__filename"],
        filter=pc.field("_subject") == subject,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return {
        name
        for batch in scanner.to_batches()
        for name in pc.unique(batch.column("__filename")).to_pylist()
    }


def _without(table: Table, file: DataFile, subject: str) -> list[DataFile]:
    rows = files.read(table.metadata, file)
    rows = rows.filter(pc.not_equal(rows.column("_subject"), subject))
    return list(files.write(table.io, table.metadata, rows)) if rows.num_rows else []


def _move(
    table: Table, name: str, snapshot_id: int, added: list[DataFile], removed: list[DataFile]
) -> None:
    """Let ``name`` mean a snapshot with some files exchanged."""
    snapshot = table.snapshot_by_id(snapshot_id)
    notes = tables.notes_of(snapshot)
    if name == tables.MAIN:
        tables.commit(table, added, removed, notes=notes)
        return
    with table.manage_snapshots() as manage:
        manage.create_branch(snapshot_id, BRANCH)
    tables.commit(table, added, removed, notes=notes, branch=BRANCH)
    with table.manage_snapshots() as manage:
        manage.remove_tag(name).create_tag(table.refs()[BRANCH].snapshot_id, name)
        manage.remove_branch(BRANCH)
