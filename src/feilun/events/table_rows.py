"""Rows of a table as records of the log.

A row's id is made of its key and its time: each state of a row is one event, however often it is
read. Rows are never late, however old: they carry the flag of an import, and keep their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from feilun.definitions.specs import EventSpec, Project, TableSpec
from feilun.errors import InputError, UnknownName
from feilun.events.items import content_digest, subject_of
from feilun.events.rows import RowReader
from feilun.ports.table_source import TableQuery
from feilun.records.record import IMPORTED, Record

_EARLIEST = 10**14
"""The least number that is taken for µs (March 1973): smaller ones are seconds, or dates."""

_encode = msgspec.msgpack.Encoder().encode


class TableRows:
    """Turns the rows of one table into records.

    Parameters
    ----------
    project : Project
        Where the table is defined.
    name : str
        The table, as an event kind.

    Raises
    ------
    UnknownName
        If the project has no table of that name.
    """

    def __init__(self, project: Project, name: str) -> None:
        self.event, self.table = table_of(project, name)
        self.source = f"table:{name}"
        names = [field.name for field in self.event.fields]
        self._rows = RowReader(project, name, dict(zip(names, self.table.columns, strict=True)))
        self._key = [names.index(field) for field in self.table.key]
        self._timezone = project.timezone

    def query(self, until: int) -> TableQuery:
        """Return what to ask the source for: rows up to ``until``, µs UTC."""
        table = self.table
        fields = list(zip(self.event.fields, table.columns, strict=True))
        needed = [column for field, column in fields if not field.optional]
        also = [table.available] if isinstance(table.available, str) else []
        return TableQuery(
            table=table.table,
            columns=tuple(dict.fromkeys([table.time, *also, *needed])),
            optional=tuple(column for field, column in fields if field.optional),
            time=table.time,
            until=until,
            lookback=table.lookback,
            timezone=self._timezone,
        )

    def time(self, row: Mapping[str, Any], now: int) -> int:
        """Return when the row became what it is, µs UTC.

        Raises
        ------
        InputError
            If its time column does not say.
        """
        time = self._rows.time(row, self.table.time, now)
        if time < _EARLIEST and isinstance(row[self.table.time], int | str):
            raise InputError(
                f"{self.table.time}: {row[self.table.time]!r} is not µs since 1970.",
                "Give times as µs, as ISO 8601, or in a column of times.",
            )
        return time

    def record(self, row: Mapping[str, Any], time: int, received: int) -> Record:
        """Return the record of a row of ``time`` that was read at ``received``, both µs UTC.

        Raises
        ------
        InputError
            If the row cannot be one; the message names the column.
        """
        shape = self._rows.shape
        values = self._rows.values(row)
        return Record(
            schema=shape.spec.schema_id,
            source=self.source,
            id=self._id(values, time),
            time=time,
            received=received,
            client_time=time,
            available=self._available(row, time, received),
            subject=subject_of(shape, values),
            digest=content_digest(shape.spec, time, values),
            body=_encode(values),
            flags=IMPORTED,
        )

    def _id(self, values: Sequence[Any], time: int) -> str:
        """Name a state of a row. Ids grow with time, which keeps the log's index compact."""
        key = _encode((self.event.version, [values[place] for place in self._key]))
        return f"{time:016x}-{hashlib.blake2b(key, digest_size=12).hexdigest()}"

    def _available(self, row: Mapping[str, Any], time: int, received: int) -> int:
        """Return when the row became known: when it was read, unless the definition says when."""
        said = self.table.available
        if said is None:
            return received
        available = time + said if isinstance(said, int) else self._rows.time(row, said, received)
        if available < time:
            raise InputError(f"{said}: it was known before it happened.")
        return min(available, received)


def table_of(project: Project, name: str) -> tuple[EventSpec, TableSpec]:
    """Return a table of the project.

    Raises
    ------
    UnknownName
        If there is none of that name.
    """
    event = project.events.get(name)
    if event is None or event.table is None:
        known = ", ".join(project.tables) or "none"
        raise UnknownName(f"There is no table {name!r}.", f"The project's tables: {known}.")
    return event, event.table
