"""Folds of earlier definitions: kept as bytes, and folded still by the definitions of today.

A model in production reads what it was trained on, and that may not be what the project says now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from feilun.definitions.specs import (
    ConditionSpec,
    CustomSpec,
    DType,
    EntitySpec,
    FieldSpec,
    FoldSpec,
    Project,
)

_COMPARED: Mapping[type, DType] = {bool: "bool", int: "int", float: "float", str: "str"}
"""The type of the field that a value is compared with."""


def encode_class(_: object) -> None:
    """Leave out the class of a custom aggregation: the project has it. A hook for msgspec."""


def decode_class(_kind: type, _value: object) -> type:
    """Return what stands for that class until `today` puts it back. A hook for msgspec."""
    return object


def today(fold: FoldSpec, project: Project) -> FoldSpec:
    """Return a fold that was decoded as the project folds it now.

    Its meaning is as it was. What a fold only refers to is the project's: the class of a custom
    aggregation, how an entity is described, whether a field may be absent by now.
    """
    fold = replace(
        fold,
        keys=tuple(_entity(project, key) for key in fold.keys),
        where=_condition(fold.where),
        custom=fold.custom and _customs(project).get(fold.custom, fold.custom),
    )
    for own in project.folds:
        if own.fingerprint == fold.fingerprint:
            return replace(own, retention=fold.retention)
    event = project.events.get(fold.event)
    fields = {field.name: field for field in event.fields} if event else {}
    field = fields.get(fold.field or "")
    return fold if field is None else replace(fold, required=not field.optional)


def has_class(custom: CustomSpec, project: Project) -> bool:
    """Whether the project has a custom aggregation, with the same code."""
    return custom in _customs(project)


def obstacle(fold: FoldSpec, project: Project) -> str:
    """Return what the project lacks to fold it still; nothing if it can."""
    event = project.events.get(fold.event)
    if event is None:
        return f"the event {fold.event} is gone"
    if fold.custom is not None and not has_class(fold.custom, project):
        return f"the aggregation {fold.custom.name} is gone, or its code is another"
    fields = {field.name: field for field in event.fields}
    for wanted in fields_of(fold):
        field = fields.get(wanted.name)
        if field is None:
            return f"the field {fold.event}.{wanted.name} is gone"
        if (field.dtype, field.dim) != (wanted.dtype, wanted.dim):
            return f"the field {fold.event}.{wanted.name} is of another type now"
    for key in fold.keys:
        if _entity(project, key) is not project.entities.get(key.name):
            return f"the entity {key.name} is gone, or of another type"
    return ""


def fields_of(fold: FoldSpec) -> list[FieldSpec]:
    """Return the fields that a fold needs, as they were when it was defined."""
    fields = [FieldSpec(key.name, key.dtype) for key in fold.keys] + _compared(fold.where)
    if fold.field is not None:
        fields.append(FieldSpec(fold.field, fold.dtype, dim=fold.dim))
    return fields


def _entity(project: Project, key: EntitySpec) -> EntitySpec:
    own = project.entities.get(key.name)
    return own if own is not None and own.dtype == key.dtype else key


def _customs(project: Project) -> dict[CustomSpec, CustomSpec]:
    """Return the project's custom aggregations, by what they are whatever their class."""
    return {fold.custom: fold.custom for fold in project.folds if fold.custom is not None}


def _compared(condition: ConditionSpec | None) -> list[FieldSpec]:
    """Return the fields that a condition looks at."""
    if condition is None:
        return []
    found = [each for part in condition.parts for each in _compared(part)]
    if condition.field:
        values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        found += [FieldSpec(condition.field, _COMPARED[type(value)]) for value in values]
    return found


def _condition(condition: ConditionSpec | None) -> ConditionSpec | None:
    """Give a condition its tuples back, which are lists when they were decoded."""
    if condition is None:
        return None
    value = tuple(condition.value) if isinstance(condition.value, list) else condition.value
    parts = tuple(part for part in map(_condition, condition.parts) if part is not None)
    return replace(condition, value=value, parts=parts)
