"""The matrix that a model sees: columns of features to float32, here and nowhere else.

Training and serving both call `assemble`, so that a value is rounded once, in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from feilun.aggregation.frames import Column, Float32
from feilun.definitions.specs import ClassSpec, EncodingSpec, ExpressionSpec, Readable
from feilun.errors import ModelError
from feilun.features.encodings import class_column
from feilun.features.expressions import evaluate, numbers


def assemble(
    wanted: Sequence[Readable],
    columns: Mapping[str, Column],
    rows: int,
    categories: Mapping[str, Sequence[str]],
) -> tuple[Float32, list[str]]:
    """Put feature columns side by side.

    A missing value without a default is NaN. A text is the index of its category, NaN if it is
    none of them; True is 1. A vector is as many columns as it has numbers. Arithmetic is in
    float64, then every number is rounded once.

    Parameters
    ----------
    wanted : sequence of Readable
        What the matrix holds, in order.
    columns : mapping
        Address to column of what is wanted, of length ``rows``, or 1 for all rows alike. An
        expression that is not there is computed from its inputs.
    rows : int
        Rows of the matrix.
    categories : mapping
        Address of each text to its categories.

    Returns
    -------
    float32 array, rows by columns, C order
    list of str
        Addresses of what has a value in no row; a default is none.

    Raises
    ------
    ModelError
        If what is wanted is a list, or a text without categories.
    """
    matrix = np.empty((rows, sum(each.width for each in wanted)), np.float32)
    missing = []
    place = 0
    with np.errstate(all="ignore"):  # a float beyond float32 is infinite
        for each in wanted:
            column = _numbers(each, columns, categories)
            if each.dtype == "vector":
                matrix[:, place : place + each.width] = column.values
            else:
                matrix[:, place] = column.values
            place += each.width
            if rows and not column.present.any():
                missing.append(each.address)
    return matrix, missing


def column_names(wanted: Sequence[Readable]) -> tuple[str, ...]:
    """Name each column of the matrix: by address, those of a vector as ``view:feature[0]``."""
    return tuple(
        name
        for each in wanted
        for name in (
            [f"{each.address}[{at}]" for at in range(each.width)]
            if each.dtype == "vector"
            else [each.address]
        )
    )


def _numbers(
    wanted: Readable, columns: Mapping[str, Column], categories: Mapping[str, Sequence[str]]
) -> Column:
    """Return float64 numbers: NaN where missing without a default, and of a text without a code."""
    if isinstance(wanted, ExpressionSpec):
        column = columns.get(wanted.address)
        return evaluate(wanted, columns) if column is None else column
    if isinstance(wanted, ClassSpec):
        column = class_column(wanted, columns)
        return Column(numbers(wanted, column), column.present)
    column = columns[wanted.address]
    if isinstance(wanted, EncodingSpec):
        return Column(numbers(wanted, column), column.present)
    if wanted.is_list:
        raise ModelError(
            f"{wanted.address} is a list, which is no column of a model.",
            "Use it as candidates, or take a single value.",
        )
    if column.values.dtype == object:
        codes = codes_of(wanted, categories)
        coded = [codes.get(value, np.nan) for value in column.values.tolist()]
        column = Column(np.array(coded, np.float64), column.present)
    return Column(numbers(wanted, column), column.present)


def codes_of(text: Readable, categories: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """Return the code of each value of a text that has one.

    Raises
    ------
    ModelError
        If the categories do not tell.
    """
    known = categories.get(text.address)
    if known is None:
        raise ModelError(f"{text.address} is text, and its categories are not given.")
    return _codes(tuple(known))


@lru_cache(maxsize=256)
def _codes(categories: tuple[str, ...]) -> dict[str, int]:
    return {category: code for code, category in enumerate(categories)}
