"""Upkeep of one table: closed days in few files, old snapshots gone, and no stray file kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table

from feilun.adapters.iceberg import files, tables
from feilun.clock import DAY, HOUR
from feilun.ports.lake import Maintained

KEPT = 48 * HOUR
"""How long a snapshot without a name is kept, µs."""
KEPT_MOST = 200
"""How many of them are kept at most: each one makes every commit a little slower."""
CLOSED = HOUR
"""How long after its end a day is taken for closed, µs; what comes later is compacted later."""
FRAGMENTS = 4
"""Small files of one day that are worth writing anew."""
_MILLISECOND = 1_000


def maintain(table: Table, now: int) -> Maintained:
    """Compact closed days, expire snapshots, remove files that no kept snapshot needs."""
    compacted = compact(table, now)
    expired = expire(table, now)
    return Maintained(compacted, expired, sweep(table))


def compact(table: Table, now: int) -> int:
    """Rewrite the small files of closed days in one commit; return how many files went.

    No more than ``files.FILE_ROWS`` rows are held at once.
    """
    by_day: dict[int, list[DataFile]] = {}
    for file in tables.files_of(table, table.current_snapshot()):
        if file.record_count < files.FILE_ROWS // 2:
            by_day.setdefault(files.times(file)[0] // DAY, []).append(file)
    groups = [
        group
        for day, small in by_day.items()
        if (day + 1) * DAY + CLOSED <= now and len(small) >= FRAGMENTS
        for group in _groups(small)
    ]
    if not groups:
        return 0
    added: list[DataFile] = []
    try:
        for group in groups:
            rows = pa.concat_tables([files.read(table.metadata, file) for file in group])
            added += files.write(table.io, table.metadata, rows)
    except BaseException:
        files.remove(added)
        raise
    removed = [file for group in groups for file in group]
    tables.commit(table, added, removed, notes=tables.notes_of(table.current_snapshot()))
    return len(removed) - len(added)


def expire(table: Table, now: int) -> int:
    """Let snapshots go that are older than 48 h, or too many, and not named."""
    held = {ref.snapshot_id for ref in table.refs().values()}
    free = sorted(
        (one for one in table.snapshots() if one.snapshot_id not in held),
        key=lambda one: one.timestamp_ms,
        reverse=True,
    )
    oldest = (now - KEPT) // _MILLISECOND
    gone = [
        one.snapshot_id
        for place, one in enumerate(free)
        if one.timestamp_ms < oldest or place >= KEPT_MOST
    ]
    forget(table, gone)
    return len(gone)


def forget(table: Table, snapshots: Sequence[int]) -> None:
    """Remove snapshots from the table; their files stay until `sweep`."""
    if snapshots:
        table.maintenance.expire_snapshots().by_ids(list(snapshots)).commit()


def sweep(table: Table) -> int:
    """Remove every file of the table that no snapshot needs; return how many.

    Only while no other writer works: what an append under way has written is needed by none yet.
    """
    needed = _needed(table)
    removed = 0
    root = Path(table.location())
    for path in [path for path in root.rglob("*") if path.is_file()]:
        if str(path) not in needed:
            path.unlink()
            removed += 1
    for folder in [path for path in (root / "data").glob("*") if not any(path.iterdir())]:
        folder.rmdir()
    return removed


def _needed(table: Table) -> set[str]:
    needed = {table.metadata_location}
    needed.update(entry.metadata_file for entry in table.metadata.metadata_log)
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.snapshots():
        needed.add(snapshot.manifest_list)
        manifests.update((one.manifest_path, one) for one in snapshot.manifests(table.io))
    needed.update(manifests)
    for manifest in manifests.values():
        entries = manifest.fetch_manifest_entry(table.io)
        needed.update(entry.data_file.file_path for entry in entries)
    return needed


def _groups(small: Iterable[DataFile]) -> list[list[DataFile]]:
    """Put files that follow each other in time together, as many as one file may hold."""
    groups: list[list[DataFile]] = []
    rows = 0
    for file in sorted(small, key=files.times):
        if not groups or rows + file.record_count > files.FILE_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(file)
        rows += file.record_count
    return [group for group in groups if len(group) > 1]
