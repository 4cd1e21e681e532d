"""Which events a fold counts: conditions, evaluated on columns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array, Bool, EventFrame
from feilun.definitions.specs import ConditionSpec

_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "==": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


def holds(condition: ConditionSpec, events: EventFrame) -> Bool:
    """Return for which events a condition holds.

    A comparison of an absent field is false, also ``!=``; ``not`` of it is true.
    """
    if condition.op == "not":
        return ~holds(condition.parts[0], events)
    if condition.op in ("and", "or"):
        parts = [holds(part, events) for part in condition.parts]
        join = np.logical_and if condition.op == "and" else np.logical_or
        return np.asarray(join.reduce(parts))
    column = events.columns[condition.field]
    if column.present.all():
        return _compare(condition, column.values)
    result = np.zeros(len(events), np.bool_)
    result[column.present] = _compare(condition, column.values[column.present])
    return result


def _compare(condition: ConditionSpec, values: Array) -> Bool:
    if condition.op != "in":
        value = condition.value
        if values.dtype == object:  # NumPy's own strings would lose a zero at the end
            value = np.empty((), object)
            value[()] = condition.value
        return np.asarray(_COMPARISONS[condition.op](values, value), np.bool_)
    if values.dtype == object:
        wanted = frozenset(condition.value)
        return np.fromiter(map(wanted.__contains__, values.tolist()), np.bool_, len(values))
    return np.isin(values, list(condition.value))
