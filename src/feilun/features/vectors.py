"""The matrix that a model sees: columns of features to float32, here and nowhere else.

Training and serving both call `assemble`, so that a value is rounded once, in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from feilun.aggregation.frames import Array, Column, Float32
from feilun.definitions.specs import ExpressionSpec, FeatureSpec
from feilun.errors import ModelError

_OPERATIONS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


def assemble(
    features: Sequence[FeatureSpec | ExpressionSpec],
    columns: Mapping[str, Column],
    rows: int,
    categories: Mapping[str, Sequence[str]],
) -> tuple[Float32, list[str]]:
    """Put feature columns side by side.

    A missing value without a default is NaN. A text is the index of its category, NaN if it is
    none of them; True is 1. Arithmetic is in float64, then every number is rounded once.

    Parameters
    ----------
    features : sequence of FeatureSpec or ExpressionSpec
        The matrix's columns, in order.
    columns : mapping
        Address to column of every feature needed, of length ``rows``, or 1 for all rows alike.
    rows : int
        Rows of the matrix.
    categories : mapping
        Address of each text feature to its categories.

    Returns
    -------
    float32 array, rows by features, C order
    list of str
        Addresses of the columns that have a value in no row.

    Raises
    ------
    ModelError
        If a feature is a list, or a text without categories.
    """
    matrix = np.empty((rows, len(features)), np.float32)
    missing = []
    with np.errstate(all="ignore"):  # a float beyond float32 is infinite, 0/0 is missing
        for place, feature in enumerate(features):
            numbers = _numbers(feature, columns, categories)
            matrix[:, place] = numbers
            if rows and np.isnan(numbers).all():
                missing.append(feature.address)
    return matrix, missing


def _numbers(
    column: FeatureSpec | ExpressionSpec | float,
    columns: Mapping[str, Column],
    categories: Mapping[str, Sequence[str]],
) -> Array:
    """Return float64 numbers, NaN where missing."""
    if isinstance(column, FeatureSpec):
        return _feature_numbers(column, columns[column.address], categories)
    if isinstance(column, ExpressionSpec):
        left = _numbers(column.left, columns, categories)
        right = _numbers(column.right, columns, categories)
        result: Array = _OPERATIONS[column.op](left, right)
        return np.where(right == 0, np.nan, result) if column.op == "/" else result
    return np.float64(column).reshape(1)


def _feature_numbers(
    feature: FeatureSpec, column: Column, categories: Mapping[str, Sequence[str]]
) -> Array:
    if feature.is_list:
        raise ModelError(
            f"{feature.address} is a list, which is no column of a model.",
            "Use it as candidates, or take a single value.",
        )
    values = column.values
    if values.dtype == object:
        known = categories.get(feature.address)
        if known is None:
            raise ModelError(f"{feature.address} is text, and its categories are not given.")
        codes = _codes(tuple(known))
        values = np.array([codes.get(value, np.nan) for value in values.tolist()], np.float64)
    numbers = values.astype(np.float64)
    if feature.default is None and not column.present.all():
        numbers[~column.present] = np.nan
    return numbers


@lru_cache(maxsize=256)
def _codes(categories: tuple[str, ...]) -> dict[str, int]:
    return {category: code for code, category in enumerate(categories)}
