"""How an event may change while records of its earlier shapes lie in the log.

Records are never rewritten: one of an earlier shape is read by the names of its fields. So what was
stored must stay readable as what the event is now, and stay about the same subject.
"""

from __future__ import annotations

from collections.abc import Mapping

from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import Problem


def changes(known: Mapping[str, EventSpec], event: EventSpec) -> list[Problem]:
    """Return what keeps an event from living together with the shapes it had before.

    It may get optional fields and lose fields, an int may become a float, a required field may
    become optional, and fields may change places. A new version changes nothing of this.

    Parameters
    ----------
    known : mapping
        Schema id to shape: every one of which records were ever stored, of any event.
    event : EventSpec
        The event as it is defined now.

    Examples
    --------
    >>> old = EventSpec("click", 1, (FieldSpec("price", "str"),), subject=None)
    >>> new = EventSpec("click", 1, (FieldSpec("price", "int"),), subject=None)
    >>> [problem.what for problem in changes({old.schema_id: old}, new)]
    ['it was str in click.v1.1a0936a1, and is int now.']
    """
    shapes = {id: shape for id, shape in known.items() if shape.name == event.name}
    problems = [_field_problem(event, field, shapes) for field in event.fields]
    problems += [_subject_problem(event, shapes), _key_problem(event, shapes)]
    return [problem for problem in problems if problem is not None]


def differences(known: Mapping[str, EventSpec], event: EventSpec) -> list[str]:
    """Say in a few words what an event has that no stored shape of it has.

    It is compared with the one that is most like it. Nothing is said of an event without records,
    or with records of exactly this shape.

    Examples
    --------
    >>> old = EventSpec("click", 1, (FieldSpec("size", "int"),), subject=None)
    >>> fields = FieldSpec("size", "float"), FieldSpec("color", "str", optional=True)
    >>> differences({old.schema_id: old}, EventSpec("click", 1, fields, subject=None))
    ['+ color (optional)', 'size: int → float']
    """
    shapes = [shape for shape in known.values() if shape.name == event.name]
    found = [_difference(shape, event) for shape in shapes]
    return min(found, key=len) if found else []


def _field_problem(
    event: EventSpec, field: FieldSpec, shapes: Mapping[str, EventSpec]
) -> Problem | None:
    where = f"{event.name}.{field.name}"
    for schema_id, shape in shapes.items():
        old = _fields(shape).get(field.name)
        if old is not None and not _can_stand_for(old, field):
            return Problem(
                where,
                f"it was {_type(old)} in {schema_id}, and is {_type(field)} now.",
                "Those records stay as they are: give the field a new name, or define a new event. "
                "Another version does not help.",
            )
        if not field.optional and (old is None or old.optional):
            lacking = "lack it" if old is None else "may lack it"
            return Problem(
                where,
                f"it is required, and records of {schema_id} {lacking}.",
                f"Write fl.Field[{_type(field).partition(',')[0]} | None].",
            )
    return None


def _subject_problem(event: EventSpec, shapes: Mapping[str, EventSpec]) -> Problem | None:
    for schema_id, shape in shapes.items():
        if shape.subject != event.subject:
            fix = "define a new event."
            if shape.subject in _fields(event) and event.subject is None:
                fix = f"Keep the entity {shape.subject} and its type, or {fix}"
            elif shape.subject in _fields(event):
                fix = f"Put {shape.subject} before {event.subject}, or {fix}"
            return Problem(
                event.name,
                f"records of {schema_id} are about {_subject(shape)}, and new ones would be about "
                f"{_subject(event)}: erasing one of those would miss the old ones.",
                fix[0].upper() + fix[1:],
            )
    return None


def _key_problem(event: EventSpec, shapes: Mapping[str, EventSpec]) -> Problem | None:
    for schema_id, shape in shapes.items():
        if _key(shape) != _key(event):
            return Problem(
                event.name,
                f"{_row(shape)} in {schema_id}, and {_row(event)} now: what was stored would be "
                "counted once more under its new name.",
                "Define a new table or event.",
            )
    return None


def _difference(old: EventSpec, new: EventSpec) -> list[str]:
    before, now = _fields(old), _fields(new)
    kept = [(before[name], field) for name, field in now.items() if name in before]
    added = [field for name, field in now.items() if name not in before]
    said = [f"+ {field.name}{' (optional)' if field.optional else ''}" for field in added]
    said += [f"- {name}" for name in before if name not in now]
    said += [f"{b.name}: {_type(a)} → {_type(b)}" for a, b in kept if _type(a) != _type(b)]
    said += [
        f"{b.name}: {'optional' if b.optional else 'required'}"
        for a, b in kept
        if a.optional != b.optional
    ]
    if [name for name in before if name in now] != [name for name in now if name in before]:
        said.append("fields in another order")
    if old.version != new.version:
        said.append(f"version {old.version} → {new.version}")
    return said


def _can_stand_for(old: FieldSpec, new: FieldSpec) -> bool:
    same = (old.dtype, old.dim) == (new.dtype, new.dim)
    return same or (old.dtype, new.dtype) == ("int", "float")


def _fields(event: EventSpec) -> dict[str, FieldSpec]:
    return {field.name: field for field in event.fields}


def _type(field: FieldSpec) -> str:
    return f"Vector, dim={field.dim}" if field.dtype == "vector" else field.dtype


def _subject(event: EventSpec) -> str:
    return event.subject or "nobody"


def _key(event: EventSpec) -> tuple[str, ...]:
    return event.table.key if event.table else ()


def _row(event: EventSpec) -> str:
    key = _key(event)
    return f"a row is named by {', '.join(key)}" if key else "it is sent by clients"
