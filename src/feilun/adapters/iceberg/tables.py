"""Iceberg's side of a table: made, widened, committed to, and asked what it holds."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.transforms import DayTransform
from sqlalchemy.exc import SQLAlchemyError

from feilun.adapters.iceberg import files
from feilun.adapters.iceberg.columns import ENVELOPE_IDS, first_schema, iceberg_type, lake_type
from feilun.errors import ConfigError, CorruptData, StoreFull, Unavailable
from feilun.ports.lake import LakeTable

MAIN = "main"
ARCHIVED = "feilun.archived"
"""In a snapshot's summary: the offset (exclusive) up to which its table was written."""
WHOLE = "feilun.whole"
"""In a snapshot's summary: the offset below which, at its commit, every table was whole."""
FORMAT = "feilun.format"
_FORMAT_VERSION = 1

_PROPERTIES = {
    "format-version": "2",
    FORMAT: str(_FORMAT_VERSION),
    # Bounds of other columns would leave people's values in manifests, where erasure is costly.
    "write.metadata.metrics.default": "counts",
    "write.metadata.metrics.column._offset": "full",
    "write.metadata.metrics.column._time": "full",
    # A manifest for each commit makes the next commits slow.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "32",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "2",
    # How far a table was written is decided before its commit, so a changed table needs a new look.
    "commit.retry.num-retries": "0",
}


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the vendors' errors into ours; ``what`` was being done."""
    try:
        yield
    except (CommitFailedException, ValidationException, SQLAlchemyError) as error:
        raise Unavailable(
            f"{what}: another program changed the lake, or holds it: {error}", "Try again."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"{what}: the disk is full.", "Make room on it.") from error
        if isinstance(error, FileNotFoundError):
            raise Unavailable(
                f"{what}: a file of the lake went away: {error}",
                "Try again: it was compacted or erased meanwhile.",
            ) from error
        if error.errno is None:  # not the system's error but Arrow's: a page fails its checksum
            raise _damaged(what, error) from error
        raise
    except pa.ArrowInvalid as error:
        raise _damaged(what, error) from error


def _damaged(what: str, error: Exception) -> CorruptData:
    return CorruptData(
        f"{what}: a file of the lake is damaged: {error}",
        "The lake is derived: move its folder away, and it is written again from the log.",
    )


def create(catalog: Catalog, name: str) -> Table:
    """Make a table of the envelope alone, in daily partitions."""
    day = PartitionField(ENVELOPE_IDS["_time"], 1000, DayTransform(), "_day")
    catalog.create_namespace_if_not_exists(name.partition(".")[0])
    return catalog.create_table(
        name, first_schema(), partition_spec=PartitionSpec(day), properties=_PROPERTIES
    )


def check_format(table: Table) -> None:
    """Refuse a table of a newer version of Feilun."""
    version = int(table.properties.get(FORMAT, "0"))
    if version > _FORMAT_VERSION:
        raise ConfigError(
            f"The lake's table {name_of(table)} is of format {version}; this version of Feilun "
            f"knows formats up to {_FORMAT_VERSION}.",
            "Use the version of Feilun that wrote it, or a newer one.",
        )


def evolve(table: Table, wanted: LakeTable) -> None:
    """Give the table the columns that it lacks; let a column of int become one of float.

    Iceberg has no such change of type: the column gets a new id, and its files are written anew in
    the same commit. Snapshots before it keep their ints.

    Raises
    ------
    ConfigError
        If a column has another type; nothing was changed.
    """
    stored = {f.name: lake_type(f.field_type) for f in table.schema().fields}
    new = [field for field in wanted.fields if field.name not in stored]
    widened = []
    for field in wanted.fields:
        have = stored.get(field.name, field.type)
        if (have, field.type) == ("int", "float"):
            widened.append(field)
        elif have != field.type and (have, field.type) != ("float", "int"):
            raise ConfigError(
                f"The lake's table {wanted.name} has {field.name!r} as {have}; it cannot become "
                f"{field.type}.",
                "Give the field or the event another name; what was archived stays as it is.",
            )
    if not new and not widened:
        return
    with table.transaction() as transaction:
        with transaction.update_schema(allow_incompatible_changes=True) as update:
            for field in widened:
                update.delete_column(field.name)
            for field in (*new, *widened):
                update.add_column(field.name, iceberg_type(field.type))
        newest = table.current_snapshot()
        metadata = transaction.table_metadata
        stale = [one for one in files_of(table, newest) if files.is_stale(metadata, one)]
        if stale:
            added = [
                new_file
                for file in stale
                for new_file in files.write(table.io, metadata, files.read(metadata, file))
            ]
            _exchange(transaction, added, stale, notes_of(newest), MAIN)


def commit(
    table: Table,
    added: Sequence[DataFile],
    removed: Sequence[DataFile] = (),
    *,
    notes: dict[str, str],
    branch: str = MAIN,
) -> None:
    """Make a new snapshot of ``branch`` with some files more and some fewer."""
    with table.transaction() as transaction:
        _exchange(transaction, added, removed, notes, branch)


def _exchange(
    transaction: Transaction,
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
    notes: dict[str, str],
    branch: str,
) -> None:
    update = transaction.update_snapshot(snapshot_properties=notes, branch=branch)
    with update.overwrite() if removed else update.merge_append() as snapshot:
        for file in added:
            snapshot.append_data_file(file)
        for file in removed:
            snapshot.delete_data_file(file)


def files_of(table: Table, snapshot: Snapshot | None) -> list[DataFile]:
    """Return the data files of a snapshot."""
    if snapshot is None:
        return []
    found: list[DataFile] = []
    for manifest in snapshot.manifests(table.io):
        if manifest.content != ManifestContent.DATA:
            raise ConfigError(
                f"The lake's table {name_of(table)} has delete files, which another program wrote.",
                "Let that program compact the table, and delete by copy-on-write from now on.",
            )
        found += [entry.data_file for entry in manifest.fetch_manifest_entry(table.io)]
    return found


def notes_of(snapshot: Snapshot | None) -> dict[str, str]:
    """Return what a snapshot says of offsets, for the next one to say too."""
    if snapshot is None or snapshot.summary is None:
        return {}
    summary = snapshot.summary.additional_properties
    return {key: summary[key] for key in (ARCHIVED, WHOLE) if key in summary}


def archived_of(table: Table) -> int:
    """Return the offset (exclusive) up to which the table was written."""
    return int(notes_of(table.current_snapshot()).get(ARCHIVED, "0"))


def whole_of(snapshots: Iterable[Snapshot | None]) -> int:
    """Return the offset below which every table was whole, as the newest of snapshots says."""
    return max((int(notes_of(one).get(WHOLE, "0")) for one in snapshots), default=0)


def names_of(table: Table) -> dict[str, int]:
    """Return the snapshots that have names, by name."""
    return {name: ref.snapshot_id for name, ref in table.refs().items() if name != MAIN}


def name_of(table: Table) -> str:
    """Return the table's name with its namespace."""
    return ".".join(table.name())
