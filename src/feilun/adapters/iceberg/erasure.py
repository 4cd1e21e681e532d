"""Erasure from one table: no snapshot, named or not, keeps a row of the subject, nor any file."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from feilun.adapters.iceberg import files, tables, upkeep
from feilun.ports.lake import Deleted

BRANCH = "feilun-erasure"
"""Where a named snapshot is made anew before its name moves."""


_State = dict[str, DataFile]
"""The files of one snapshot, by path."""


def subjects(table: Table) -> Iterator[str]:
    """Return whom rows are about, in every snapshot; some may come several times."""
    files_of = [tables.files_of(table, snapshot) for snapshot in table.snapshots()]
    paths = sorted({file.file_path for state in files_of for file in state})
    if not paths:
        return
    for batch in ds.dataset(paths, format="parquet").scanner(columns=["_subject"]).to_batches():
        yield from pc.unique(batch.column("_subject")).to_pylist()


def delete_subject(table: Table, subject: str, before: int) -> Deleted:
    """Take the rows of a subject before a time (µs) out of every snapshot of a table.

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
    covered = (pc.field("_subject") == subject) & (
        pc.field("_time") < pa.scalar(before, pa.timestamp("us", tz="UTC"))
    )
    holders = _holders({path for state in states.values() for path in state}, covered)
    done = Deleted(0, ())
    if holders:
        done = _renew(table, states, holders, covered)
        kept = {ref.snapshot_id for ref in table.refs().values()}
        holding = [one for one, state in states.items() if not holders.isdisjoint(state)]
        upkeep.forget(table, [one for one in holding if one not in kept])
    upkeep.sweep(table)
    return done


def _renew(
    table: Table, states: dict[int, _State], holders: set[str], covered: pc.Expression
) -> Deleted:
    """Make the newest snapshot and the named ones anew, without the rows; say what that took."""
    rows, names = 0, []
    renewed: dict[str, list[DataFile]] = {}
    for name, snapshot_id in [(tables.MAIN, _head(table)), *tables.names_of(table).items()]:
        state = states.get(snapshot_id, {})
        if holders.isdisjoint(state):
            continue
        # A new snapshot has the newest schema, so all that it holds must have it too.
        old = [
            file
            for path, file in state.items()
            if path in holders or files.is_stale(table.metadata, file)
        ]
        for file in old:
            if file.file_path not in renewed:
                renewed[file.file_path] = _without(table, file, covered)
        new = [one for file in old for one in renewed[file.file_path]]
        _move(table, name, snapshot_id, new, old)
        if name == tables.MAIN:
            rows = sum(one.record_count for one in old) - sum(one.record_count for one in new)
        else:
            names.append(name)
    return Deleted(rows, tuple(names))


def _head(table: Table) -> int:
    newest = table.current_snapshot()
    return -1 if newest is None else newest.snapshot_id


def _holders(paths: Collection[str], covered: pc.Expression) -> set[str]:
    """Return the files that hold covered rows; only the columns that say so are read."""
    if not paths:
        return set()
    scanner = ds.dataset(sorted(paths), format="parquet").scanner(
        columns=["__filename"],
        filter=covered,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return {
        name
        for batch in scanner.to_batches()
        for name in pc.unique(batch.column("__filename")).to_pylist()
    }


def _without(table: Table, file: DataFile, covered: pc.Expression) -> list[DataFile]:
    rows = files.read(table.metadata, file).filter(~covered)
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
