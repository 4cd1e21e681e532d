"""Compiles a custom aggregation, and says what is wrong with its class."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Mapping

from feilun.definitions.code_digest import class_digest
from feilun.definitions.custom import Aggregation
from feilun.definitions.problems import Problems, shown
from feilun.definitions.specs import CustomSpec

TYPES = ("<i8", "<f8", "?")
"""What a column of a custom aggregation's state may hold: int64, float64, bool."""
METHODS = ("lift", "reduce", "finish")


def compile_custom(where: str, given: object, problems: Problems) -> CustomSpec | None:
    """Return the spec of a custom aggregation, or None if its class is wrong.

    Whether it keeps the laws is not asked here, for that takes running it.
    """
    if not isinstance(given, type) or not issubclass(given, Aggregation):
        problems.add(
            where,
            f"{shown(given)} is not an aggregation.",
            "Name a class that extends fl.Aggregation.",
        )
        return None
    fault = _fault(given)
    if fault is not None:
        problems.add(where, f"{given.__name__}: {fault[0]}", fault[1])
        return None
    return CustomSpec(given.__name__, class_digest(given), given)


def _fault(given: type[Aggregation]) -> tuple[str, str] | None:
    own = vars(given)
    if given.__bases__ != (Aggregation,):
        return "an aggregation extends fl.Aggregation and nothing else.", "Write its methods out."
    missing = [
        name for name in METHODS if not isinstance(own.get(name), staticmethod | classmethod)
    ]
    if missing:
        return (
            f"{missing[0]} is not a static method of its own.",
            "Write lift, reduce and finish, each under @staticmethod.",
        )
    if own.get("dtype") not in ("int", "float", "bool"):
        return f"dtype={own.get('dtype')!r} is unknown.", 'Write dtype = "float", "int" or "bool".'
    return _columns_fault(own.get("columns"))


def _columns_fault(columns: object) -> tuple[str, str] | None:
    if not isinstance(columns, Mapping) or not columns:
        return "columns names no columns of its state.", 'Write columns = {"n": "<i8"}.'
    for name, kind in columns.items():
        if not isinstance(name, str) or not name.isidentifier() or name == "time":
            return f"{name!r} cannot name a column.", "Choose another name; time is the tile's."
        if kind not in TYPES:
            return f"the column {name!r} is {kind!r}.", f"There are: {', '.join(TYPES)}."
    return None
