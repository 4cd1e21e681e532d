"""One row alone: the values that were read of it, as the matrix and the columns of many rows.

Most requests to score something are about one row. Its values are plain numbers; making arrays of
them that nobody looks at takes longer than the model does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import (
    Computed,
    DType,
    ExpressionSpec,
    FeatureSpec,
    Readable,
    RequestSpec,
)
from feilun.features.expressions import evaluate, request_columns, request_value
from feilun.features.online import Row, column_of
from feilun.features.vectors import codes_of

_PLAIN: Mapping[DType, type] = {"int": int, "float": float, "bool": bool, "str": str}
"""What most values of a request are, and need no look at."""


def is_plain(columns: Sequence[Readable]) -> bool:
    """Return whether each column of a matrix is one value that was read or said."""
    return all(
        not isinstance(column, Computed) and column.dtype != "vector" and not column.is_list
        for column in columns
    )


class OneRow(Mapping[str, Column]):
    """The columns of one row by address, each made when it is asked for.

    Parameters
    ----------
    wanted : mapping
        By address, what there is: features, expressions, what the request says.
    row : Row
        The features' values.
    as_of : int
        The moment of the request, µs UTC.
    said : mapping
        The parameters of the request.
    """

    def __init__(
        self, wanted: Mapping[str, Readable], row: Row, as_of: int, said: Mapping[str, Any]
    ) -> None:
        self._wanted = wanted
        self._row = row
        self._as_of = as_of
        self._said = said
        self._made: dict[str, Column] = {}

    def __getitem__(self, address: str) -> Column:
        made = self._made.get(address)
        if made is None:
            made = self._made[address] = self._make(self._wanted[address])
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._wanted)

    def __len__(self) -> int:
        return len(self._wanted)

    def _make(self, each: Readable) -> Column:
        if isinstance(each, ExpressionSpec):
            return evaluate(each, self)
        if isinstance(each, RequestSpec):
            return request_columns([each], [self._as_of], [self._said])[each.address]
        assert isinstance(each, FeatureSpec)  # rows with texts to encode are read as many are
        missing = each.address in self._row.missing
        return column_of(each, None if missing else self._row.values[each.address])


class RowMatrix:
    """Makes the matrix of one row, as `vectors.assemble` makes it, to the bit.

    Parameters
    ----------
    columns : sequence of Readable
        What it holds, in order; see `is_plain`.
    categories : mapping
        Address of each text to its categories.

    Raises
    ------
    ModelError
        If a text has no categories.
    """

    def __init__(
        self, columns: Sequence[Readable], categories: Mapping[str, Sequence[str]]
    ) -> None:
        self._columns = [
            (
                column.address,
                column if isinstance(column, RequestSpec) else None,
                _PLAIN[column.dtype],
                codes_of(column, categories) if column.dtype == "str" else None,
            )
            for column in columns
        ]
        # All of them at once, where each is there and is what it mostly is.
        self._names = [c.name if isinstance(c, RequestSpec) else c.address for c in columns]
        self._types = tuple(_PLAIN[column.dtype] for column in columns)
        zoned = any(isinstance(c, RequestSpec) and c.timezone for c in columns)
        self._at_once = not zoned and str not in self._types
        # It rounds as NumPy does, in a third of the time.
        self._packed = struct.Struct(f"={len(columns)}f")

    def of(self, row: Row, as_of: int, said: Mapping[str, Any]) -> tuple[Float32, list[str]]:
        """Make it.

        Parameters
        ----------
        row : Row
            The features' values.
        as_of : int
            The moment of the request, µs UTC.
        said : mapping
            The parameters of the request.

        Returns
        -------
        float32 array, 1 by columns
        list of str
            Addresses of what has no value; a default is none.
        """
        if self._at_once and not row.missing:
            known = {**row.values, **said}  # only an address has a colon in it
            found = tuple(map(known.get, self._names))
            if tuple(map(type, found)) == self._types:
                return self._matrix(found), []
        numbers: list[Any] = []
        values, absent = row.values, row.missing
        missing: list[str] = []
        for address, request, plain, codes in self._columns:
            if request is None:
                value = values[address]
                if absent and address in absent:
                    missing.append(address)
            else:
                value = said.get(request.name)
                if type(value) is not plain or request.timezone:
                    value = request_value(request, as_of, said)
                if value is None:
                    missing.append(address)
            if codes is not None and value is not None:
                value = codes.get(value)
            numbers.append(np.nan if value is None else value)
        return self._matrix(numbers), missing

    def _matrix(self, numbers: Sequence[Any]) -> Float32:
        try:
            packed = self._packed.pack(*numbers)
        except OverflowError:
            with np.errstate(over="ignore"):  # a float beyond float32 is infinite
                return np.array([numbers], np.float64).astype(np.float32)
        return np.ndarray((1, len(numbers)), np.float32, packed)
