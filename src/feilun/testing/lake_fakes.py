"""The lake in memory: rows in lists. For tests only."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from feilun.aggregation.frames import Column, EventFrame
from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import ConfigError, InputError, UnknownName
from feilun.ports.lake import (
    ENVELOPE,
    Deleted,
    Known,
    LakeTable,
    Maintained,
    Rows,
    TableStatus,
    event_table,
)
from feilun.records.record import LATE

_Row = dict[str, Any]


@dataclass
class _Table:
    types: dict[str, str] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)
    archived: int = 0


class MemoryLake:
    """A ``Lake`` in lists and dictionaries."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._archived = 0
        self._named: dict[str, tuple[int, dict[str, _Table]]] = {}

    def archived(self) -> int:
        """Return the offset below which every record of the log is in the lake."""
        return self._archived

    def append(self, start: int, stop: int, chunks: Iterable[Rows]) -> int:
        """Write the records at offsets ``[start, stop)``; return how many rows were new."""
        if not 0 <= start <= stop:
            raise InputError(f"[{start}, {stop}) are no offsets.")
        tables, taken = copy.deepcopy(self._tables), 0
        for rows in chunks:
            table = tables.setdefault(rows.table.name, _Table())
            _evolve(table, rows.table)
            for row in _rows(rows):
                if not start <= row["_offset"] < stop:
                    raise InputError(f"Rows of {rows.table.name} are not at [{start}, {stop}).")
                if row["_offset"] >= table.archived:
                    table.rows.append(row)
                    taken += 1
        if taken:
            changed = [t for name, t in tables.items() if t.rows != self._rows_of(name)]
            for table in changed:
                table.archived = stop
            self._archived = stop
        self._tables = tables
        return taken

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
        """Read the events at offsets ``[start, stop)``."""
        if snapshot and snapshot not in self._named:
            raise UnknownName(f"The lake has no snapshot named {snapshot!r}.")
        archived, tables = self._named[snapshot] if snapshot else (self._archived, self._tables)
        stop = archived if stop is None else stop
        table = tables.get(event_table(event).name)
        if table is None:
            return
        wanted = [f for f in event.fields if fields is None or f.name in fields]
        for one in wanted:
            have = table.types.get(one.name, one.dtype)
            if have != one.dtype and (have, one.dtype) != ("int", "float"):
                raise ConfigError(f"The lake has {one.name!r} as {have}, not {one.dtype}.")
        rows = [
            row for row in table.rows if start <= row["_offset"] < stop and not row["_flags"] & LATE
        ]
        if rows:
            name = "_offset" if known == "offset" else "_available"
            yield EventFrame(
                time=np.array([row["_time"] for row in rows], np.int64),
                tie=np.array([row["_tie"] for row in rows], np.int64).view(np.uint64),
                known=np.array([row[name] for row in rows], np.int64),
                columns={one.name: _column(one, rows) for one in wanted},
            )

    def name_snapshot(self, name: str) -> int:
        """Keep the newest state under ``name``."""
        if name in ("", "main"):
            raise InputError(f"A snapshot cannot be named {name!r}.")
        state = (self._archived, copy.deepcopy(self._tables))
        return self._named.setdefault(name, state)[0]

    def forget_snapshot(self, name: str) -> None:
        """Let a named state go."""
        self._named.pop(name, None)

    def maintain(self, now: int) -> Maintained:  # noqa: ARG002
        """Do nothing: there are no files."""
        return Maintained(0, 0, 0)

    def subjects(self) -> Iterator[str]:
        """Return whom rows are about."""
        for tables in (self._tables, *(tables for _, tables in self._named.values())):
            for table in tables.values():
                yield from (row["_subject"] for row in table.rows)

    def delete_subject(self, subject: str, before: int) -> Deleted:
        """Remove every row about ``subject`` of a time before ``before``."""
        if not subject:
            raise InputError("A subject is written as entity=value.")
        gone = sum(_drop(table, subject, before) for table in self._tables.values())
        names = [
            name
            for name, (_, tables) in self._named.items()
            if sum([_drop(table, subject, before) for table in tables.values()])
        ]
        return Deleted(gone, tuple(sorted(names)))

    def tables(self) -> list[TableStatus]:
        """Return how every table stands, by name."""
        return [
            TableStatus(name, len(table.rows), 1, 0, 1, table.archived, "")
            for name, table in sorted(self._tables.items())
        ]

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _rows_of(self, name: str) -> list[_Row]:
        return self._tables[name].rows if name in self._tables else []


def _evolve(table: _Table, wanted: LakeTable) -> None:
    for one in wanted.fields:
        have = table.types.setdefault(one.name, one.type)
        if (have, one.type) == ("int", "float"):
            table.types[one.name] = "float"
        elif have != one.type and (have, one.type) != ("float", "int"):
            raise ConfigError(f"{one.name!r} is {have}; it cannot become {one.type}.")


def _rows(rows: Rows) -> list[_Row]:
    names = [one.name for one in (*ENVELOPE, *rows.table.fields)]
    columns = [
        [
            value if here else None
            for value, here in zip(
                rows.columns[name].values.tolist(), rows.columns[name].present, strict=True
            )
        ]
        for name in names
    ]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _drop(table: _Table, subject: str, before: int) -> int:
    left = [row for row in table.rows if row["_subject"] != subject or row["_time"] >= before]
    gone = len(table.rows) - len(left)
    table.rows = left
    return gone


def _column(spec: FieldSpec, rows: Sequence[_Row]) -> Column:
    values = [row.get(spec.name) for row in rows]
    present = np.array([value is not None for value in values], np.bool_)
    if spec.dtype == "vector":
        filled = [value if value is not None else [0.0] * spec.dim for value in values]
        return Column(np.array(filled, np.float64).reshape(len(rows), spec.dim), present)
    fillers: dict[str, Any] = {"int": 0, "float": 0.0, "bool": False, "str": ""}
    types: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": np.bool_, "str": object}
    filled = [fillers[spec.dtype] if value is None else value for value in values]
    return Column(np.array(filled, types[spec.dtype]), present)
