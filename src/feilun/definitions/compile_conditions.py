"""Compiles the condition of an aggregation's ``where=``, and says what is wrong with it."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from feilun.definitions.conditions import Condition
from feilun.definitions.events import Field
from feilun.definitions.problems import Problems, shown
from feilun.definitions.specs import ConditionSpec, EventSpec, FieldSpec
from feilun.definitions.values import checked_value

_ORDERED = ("int", "float", "str")


def compile_condition(
    where: str, condition: object, event: EventSpec, problems: Problems
) -> ConditionSpec | None:
    """Return the condition on ``event``; None if there is none, or if it is wrong."""
    if condition is None:
        return None
    if not isinstance(condition, Condition):
        problems.add(
            where,
            f"where={shown(condition)} is not a condition.",
            'Compare a field of the event: where=Click.category == "shoes".',
        )
        return None
    if condition.field is not None:
        return _comparison(where, condition, event, problems)
    parts = [compile_condition(where, part, event, problems) for part in condition.parts]
    known = tuple(part for part in parts if part is not None)
    if len(known) < len(parts):
        return None
    if condition.op == "not":
        return ConditionSpec("not", parts=known)
    # a & b & c is one condition of three parts, however it was put in parentheses.
    flat = tuple(p for part in known for p in (part.parts if part.op == condition.op else (part,)))
    return ConditionSpec(condition.op, parts=flat)


def _comparison(
    where: str, condition: Condition, event: EventSpec, problems: Problems
) -> ConditionSpec | None:
    field = _field(where, condition, event, problems)
    if field is None:
        return None
    ordering = condition.op in ("<", "<=", ">", ">=")
    if field.dtype == "vector" or (ordering and field.dtype not in _ORDERED):
        problems.add(
            where,
            f"{condition!r} compares a {field.dtype} with {condition.op!r}.",
            "Compare numbers and text; a bool with == and != only.",
        )
        return None
    try:
        value = _value(condition, field)
    except ValueError as error:
        problems.add(
            where, f"{condition!r}: the value {error}.", f"{condition.field!r} is {field.dtype}."
        )
        return None
    return ConditionSpec(condition.op, field.name, value)


def _field(
    where: str, condition: Condition, event: EventSpec, problems: Problems
) -> FieldSpec | None:
    """Return the field that is compared; None if it is not one of the event's."""
    compared = condition.field
    if isinstance(compared, Field) and compared.event.__feilun__.name == event.name:
        # It is absent only where it is wrong, and was noted there.
        return next((field for field in event.fields if field.name == compared.name), None)
    problems.add(
        where,
        f"where= looks at {compared!r}, and what is aggregated is {event.name!r}.",
        "Compare fields of the same event.",
    )
    return None


def _value(condition: Condition, field: FieldSpec) -> Any:
    """Return what the field is compared to, as the field keeps it, or raise ValueError."""
    required = replace(field, optional=False)
    if isinstance(condition.value, Field):
        raise ValueError(f"must be one of its own, not the field {condition.value!r}")
    if condition.op != "in":
        return checked_value(required, condition.value)
    values = condition.value
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"must be a list, not {values!r}")
    found: Sequence[Any] = [checked_value(required, value) for value in values]
    if not found:
        raise ValueError("must be a list of one or more")
    return tuple(sorted(set(found)))  # the same condition has one name, whatever the order
