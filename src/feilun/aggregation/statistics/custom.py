"""custom: an aggregation that a project brings along, as the kernel sees it.

It is one row of numbers a tile, with ``lift``, ``reduce`` and ``finish`` of
`feilun.definitions.custom.Aggregation`. What it is given and what it returns are columns by name;
what it returns is checked for its shape, and `feilun.aggregation.laws` tries its meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.statistics.base import Events, StateColumn, Statistic, Window
from feilun.definitions.specs import CustomSpec, DType
from feilun.errors import DefinitionError, Problem

_RESULTS = {"int": np.int64, "float": np.float64, "bool": np.bool_}


class Custom(Statistic):
    """A project's own statistic; in an empty window whatever it says.

    Parameters
    ----------
    dtype : str
        Of the field.
    custom : CustomSpec
        The aggregation.

    Raises
    ------
    DefinitionError
        By every method, if the aggregation fails or returns something of another shape.
    """

    def __init__(self, dtype: DType, custom: CustomSpec) -> None:
        self._name = custom.name
        self._own: Any = custom.implementation
        super().__init__(dtype)

    def columns(self) -> list[StateColumn]:
        """Those of the aggregation."""
        return list(self._own.columns.items())

    def lift(self, rows: Array, events: Events) -> None:
        """Let the aggregation fill in the rows of single events."""
        columns = {name: rows[name] for name in self._own.columns}
        self._call("lift", columns, events.time, events.values)

    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Let the aggregation merge each run."""
        reduced = self._call("reduce", self._columns(rows), starts)
        for name in self._own.columns:
            merged[name] = self._checked("reduce", reduced, name, len(starts))

    def finish(self, window: Window) -> Column:
        """Return what the aggregation makes of each segment."""
        size = len(window.offsets) - 1
        result = self._call("finish", self._columns(window.rows), window.offsets, window.as_of)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._wrong("finish", "it returned no pair (values, present)")
        parts = {"values": result[0], "present": result[1]}
        values = self._checked("finish", parts, "values", size)
        present = self._checked("finish", parts, "present", size)
        return Column(values.astype(_RESULTS[self._own.dtype]), present.astype(np.bool_))

    def _columns(self, rows: Array) -> dict[str, Array]:
        """Return the columns, which cannot be changed."""
        columns = {name: rows[name].view() for name in self._own.columns}
        for column in columns.values():
            column.flags.writeable = False
        return columns

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._own, method)(*arguments)
        except Exception as error:
            raise self._wrong(method, f"it failed with {error!r}") from error

    def _checked(self, method: str, results: Any, name: str, size: int) -> Array:
        """Return one array of what a method returned."""
        try:
            array = np.asarray(results[name])
        except (KeyError, TypeError) as error:
            raise self._wrong(method, f"it returned no {name!r}") from error
        if array.shape != (size,):
            raise self._wrong(
                method, f"{name!r} has the shape {array.shape} where {(size,)} was asked for"
            )
        return array

    def _wrong(self, method: str, why: str) -> DefinitionError:
        fix = "Correct it; `feilun check` tries it on examples."
        return DefinitionError([Problem(f"{self._name}.{method}", f"{why}.", fix)])
