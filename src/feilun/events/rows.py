"""Rows of files and tables as events: their columns become checked fields, their times µs UTC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from feilun.definitions.specs import Project
from feilun.errors import InputError
from feilun.events.items import check_time
from feilun.events.shapes import Shapes, explain
from feilun.i18n import _
from feilun.records.times import to_time


class RowReader:
    """Reads rows as one kind of event.

    Parameters
    ----------
    project : Project
        Where the event is defined.
    event : str
        Its name.
    columns : mapping
        Field to column, for those that are named otherwise.

    Raises
    ------
    InputError
        If the project has no such event, or ``columns`` names a field that it has not.
    """

    def __init__(self, project: Project, event: str, columns: Mapping[str, str]) -> None:
        self.shape = Shapes(project).named(event)
        names = [field.name for field in self.shape.spec.fields]
        for name in columns:
            if name not in names:
                raise InputError(
                    _("{event} has no field {name}.", event=event, name=repr(name)),
                    _("It has: {names}.", names=", ".join(names)),
                )
        self._texts = {names[place] for place in self.shape.texts}
        self._columns = {name: columns.get(name, name) for name in names}
        self._zone = ZoneInfo(project.timezone)

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the row's fields in the order of the schema; None where a cell is empty.

        Raises
        ------
        InputError
            If one is missing or not of its type; the message names the field.
        """
        present = {
            name: self._plain(name, value)
            for name, column in self._columns.items()
            if (value := row.get(column)) is not None
        }
        try:
            item = self.shape.convert({"event": self.shape.spec.name, "fields": present})
        except msgspec.ValidationError as error:
            raise explain(self.shape.spec, error) from error
        return self.shape.values([item.fields])[0]

    def _plain(self, name: str, value: Any) -> Any:
        """Return a cell as one of the types that fields are made of."""
        if name in self._texts:
            if isinstance(value, int | Decimal | UUID):
                return str(value)
            return value.isoformat() if isinstance(value, date) else value
        if isinstance(value, Decimal):
            whole = value.is_finite() and value == value.to_integral_value()
            value = int(value) if whole else float(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{self._columns[name]}: {value} is not a number to count with.")
        return value

    def time(self, row: Mapping[str, Any], column: str, now: int) -> int:
        """Return the time in ``column``, µs UTC; one without a zone is in the project's.

        Raises
        ------
        InputError
            If there is none, or it is before 1970 or more than ten years after ``now``.
        """
        value = row.get(column)
        try:
            time = to_time(value, self._zone)
        except ValueError as error:
            raise InputError(f"{column}: {value!r} is not a time.") from error
        check_time(column, time, min(time, now))
        return time
