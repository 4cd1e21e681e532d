"""What each kind of aggregation takes, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping

from feilun.definitions.specs import DType, Kind

_ADDED: tuple[DType, ...] = ("int", "float", "bool")
_PLAIN: tuple[DType, ...] = ("int", "float", "str", "bool")

TAKES: Mapping[Kind, tuple[DType, ...]] = {
    "sum": _ADDED,
    "mean": (*_ADDED, "vector"),
    "var": _ADDED,
    "std": _ADDED,
    "min": ("int", "float"),
    "max": ("int", "float"),
    "quantile": _ADDED,
    "decayed": _ADDED,
    "custom": _ADDED,
    "first": _PLAIN,
    "last": (*_PLAIN, "vector"),
    "top": _PLAIN,
    "distinct": _PLAIN,
}
"""Fields of these types, by kind; kinds that are not here take none."""

TAKES_EVENTS: frozenset[Kind] = frozenset({"count", "since_last", "decayed", "custom"})
"""Kinds that take whole events."""

_GIVES: Mapping[Kind, DType] = {
    "count": "int",
    "distinct": "int",
    "since_last": "float",
    "decayed": "float",
    "mean": "float",
    "var": "float",
    "std": "float",
    "quantile": "float",
}


def result_type(kind: Kind, of: DType) -> DType:
    """Return the type of a feature over a field of type ``of``; a custom one says its own.

    Examples
    --------
    >>> result_type("mean", "int"), result_type("mean", "vector"), result_type("last", "str")
    ('float', 'vector', 'str')
    """
    if kind == "sum" and of == "bool":
        return "int"
    return "vector" if of == "vector" else _GIVES.get(kind, of)
