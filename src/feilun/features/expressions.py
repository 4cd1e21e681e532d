"""What is computed from features for each row: arithmetic, and what the request itself says.

The gateway, training and the offline reads all call these, so that a value is the same to the bit
wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from feilun.aggregation.frames import Array, Bool, Column
from feilun.definitions.specs import (
    ClassSpec,
    DType,
    EncodingSpec,
    ExpressionSpec,
    FeatureSpec,
    Readable,
    RequestSpec,
)
from feilun.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPERATIONS: Mapping[str, np.ufunc] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
_ARRAYS: Mapping[DType, Any] = {"int": np.int64, "float": np.float64, "bool": bool, "str": object}
_TYPES: Mapping[DType, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "str": (str,),
}


def complete(wanted: Iterable[Readable], columns: Mapping[str, Column]) -> dict[str, Column]:
    """Return ``columns`` with the wanted expressions that are not among them yet, by address."""
    found = dict(columns)
    for each in wanted:
        if isinstance(each, ExpressionSpec) and each.address not in found:
            found[each.address] = evaluate(each, columns)
    return found


def evaluate(expression: ExpressionSpec, columns: Mapping[str, Column]) -> Column:
    """Compute an expression, in float64.

    Parameters
    ----------
    expression : ExpressionSpec
        What to compute.
    columns : mapping
        Address to column of its ``inputs``: all of one length, or of length 1 for all rows alike.

    Returns
    -------
    Column
        Missing (NaN) where an operand is missing without a default, where it divides by zero, and
        where the result is beyond float64.
    """
    with np.errstate(all="ignore"):
        values = _compute(expression, columns)
    return Column(values, ~np.isnan(values))


def numbers(spec: FeatureSpec | RequestSpec | EncodingSpec | ClassSpec, column: Column) -> Array:
    """Return a column's values as new float64 numbers: NaN where missing without a default."""
    values = column.values.astype(np.float64)
    if spec.default is None and not column.present.all():
        values[~column.present] = np.nan
    return values


def request_columns(
    wanted: Iterable[RequestSpec], as_of: Sequence[int], asked: Sequence[Mapping[str, Any]]
) -> dict[str, Column]:
    """Return what requests themselves say, by address: one row a request.

    Parameters
    ----------
    wanted : iterable of RequestSpec
        Which columns.
    as_of : sequence of int
        The moment of each request, µs UTC.
    asked : sequence of mapping
        The parameters of each request by name. One that is not there, or is of another type than
        the definition has today, is missing.

    Raises
    ------
    InputError
        If a moment is not in the years 1 to 9999.
    """
    return {
        spec.address: _moments(spec, as_of) if spec.is_moment else _parameters(spec, asked)
        for spec in wanted
    }


def request_value(wanted: RequestSpec, as_of: int, parameters: Mapping[str, Any]) -> Any:
    """Return what one request says, as a plain value; None if it does not.

    Raises
    ------
    InputError
        If the moment is not in the years 1 to 9999.
    """
    if wanted.is_moment:
        return _moments(wanted, [as_of]).values[0]
    value = parameters.get(wanted.name)
    return value if _fits(value, wanted.dtype) else None


def _compute(side: Readable | float, columns: Mapping[str, Column]) -> Array:
    """Return float64 numbers, NaN where missing."""
    if isinstance(side, float):
        return np.float64(side).reshape(1)
    if not isinstance(side, ExpressionSpec):
        return numbers(side, columns[side.address])
    result = _operate(side, columns)
    finite = np.isfinite(result)
    if not finite.all():  # also on the way: 1 / (1 / 0) is not 0
        result[~finite] = np.nan
    return result


def _operate(expression: ExpressionSpec, columns: Mapping[str, Column]) -> Array:
    """Return new float64 numbers, of whatever kind the operation gives."""
    sides = expression.left, expression.right
    if expression.op == "same":
        (left, here), (right, there) = (_compared(side, columns) for side in sides)
        return np.where(here & there, (left == right).astype(np.float64), np.nan)
    left, right = (_compute(side, columns) for side in sides)
    if expression.op == "cosine":
        return _cosine(left, right)
    result: Array = _OPERATIONS[expression.op](left, right)
    return result


def _compared(side: Readable | float, columns: Mapping[str, Column]) -> tuple[Array, Bool]:
    """Return values as they are, and which of them are there."""
    if isinstance(side, FeatureSpec | RequestSpec) and side.dtype == "str":
        column = columns[side.address]
        there = column.present if side.default is None else np.ones_like(column.present)
        return column.values, there
    values = _compute(side, columns)
    return values, ~np.isnan(values)


def _cosine(left: Array, right: Array) -> Array:
    """Return the cosine of each pair of rows; NaN where one of them has no direction."""
    # Scaled by its largest number, no vector's square is beyond float64 or vanishes.
    left, right = (side / np.abs(side).max(axis=1, keepdims=True) for side in (left, right))
    # In C order each row is added up alone, so that one row gives the bits that many rows give.
    products = [
        np.ascontiguousarray(a * b) for a, b in ((left, right), (left, left), (right, right))
    ]
    dot, of_left, of_right = (product.sum(axis=1) for product in products)
    result: Array = dot / np.sqrt(of_left * of_right)
    return np.clip(result, -1.0, 1.0)


def _moments(spec: RequestSpec, as_of: Sequence[int]) -> Column:
    zone = ZoneInfo(spec.timezone)
    try:
        local = [(_EPOCH + timedelta(microseconds=at)).astimezone(zone) for at in as_of]
    except OverflowError as error:
        raise InputError("The moment of a request is outside the years 1 to 9999.") from error
    values = [at.hour if spec.name == "hour" else at.weekday() for at in local]
    return Column(np.array(values, np.int64), np.ones(len(values), np.bool_))


def _parameters(spec: RequestSpec, asked: Sequence[Mapping[str, Any]]) -> Column:
    values = [parameters.get(spec.name) for parameters in asked]
    present = np.array([_fits(value, spec.dtype) for value in values], np.bool_)
    filler = "" if spec.dtype == "str" else 0
    filled = [value if there else filler for value, there in zip(values, present, strict=True)]
    return Column(np.array(filled, _ARRAYS[spec.dtype]), present)


def _fits(value: Any, dtype: DType) -> bool:
    return isinstance(value, _TYPES[dtype]) and isinstance(value, bool) == (dtype == "bool")
