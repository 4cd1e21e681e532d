"""Compiles entities and events, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from feilun.definitions.compile_tables import compile_table
from feilun.definitions.events import Event, read_fields
from feilun.definitions.problems import READ_OPTIONS, Problems, located
from feilun.definitions.scope import Scope
from feilun.definitions.specs import EntitySpec, EventSpec, FieldSpec
from feilun.definitions.tables import Table
from feilun.definitions.views import Entity


def compile_entities(entities: Sequence[Entity], scope: Scope) -> None:
    """Compile entities."""
    specs, problems = scope.entities, scope.problems
    for entity in entities:
        where = located(entity.site, "Entity")
        if not problems.check_name(where, entity.name):
            continue
        if entity.name in READ_OPTIONS:
            problems.add(where, "every read has a parameter of this name.", "Rename the entity.")
        elif entity.name in specs:
            problems.add(
                where,
                "another entity of this name has another type or description.",
                "Keep one of them and use it everywhere.",
            )
        elif entity.dtype is int or entity.dtype is str:
            dtype: Literal["int", "str"] = "int" if entity.dtype is int else "str"
            specs[entity.name] = EntitySpec(entity.name, dtype, entity.description)
        else:
            problems.add(
                where, f"{entity.dtype!r} cannot be the type of a key.", "Write int or str."
            )


def compile_events(events: Sequence[type[Event]], scope: Scope) -> None:
    """Compile events. One whose name or fields cannot be read is left out."""
    problems = scope.problems
    problems.check_unique(
        ((e.__feilun__.name, located(e.__feilun__.site, e.__name__)) for e in events), "event"
    )
    for event in events:
        declaration = event.__feilun__
        where = located(declaration.site, event.__name__)
        named = problems.check_name(where, declaration.name)
        fields = _fields(event, where, problems)
        if type(declaration.version) is not int or declaration.version < 1:
            problems.add(
                where, f"version={declaration.version!r} is not a version.", "Count from 1."
            )
        if named and fields:
            spec = EventSpec(
                name=declaration.name,
                version=declaration.version,
                fields=fields,
                subject=_subject(fields, scope.entities),
                owner=declaration.owner or scope.owner,
                description=declaration.description,
            )
            if issubclass(event, Table):
                spec = compile_table(spec, event.__feilun_table__, where, scope)
            scope.events[event] = spec


def _fields(event: type[Event], where: str, problems: Problems) -> tuple[FieldSpec, ...]:
    """Return the fields of an event, or nothing if one of them is wrong."""
    if event.__bases__ not in ((Event,), (Table,)):
        problems.add(
            where,
            "an event extends fl.Event, or fl.Table, and nothing else.",
            "Write its fields out; events do not inherit them.",
        )
        return ()
    reading = read_fields(event)
    problems.found.extend(reading.faults)
    if not reading.fields and not reading.faults:
        problems.add(where, "an event needs a field.", "Write one: user_id: fl.Field[int].")
    for field in reading.fields:
        problems.check_name(f"{where}.{field.name}", field.name)
        if hasattr(Event, field.name):
            problems.add(
                f"{where}.{field.name}",
                "every event has something of this name.",
                "Rename the field.",
            )
    return () if reading.faults else reading.fields


def _subject(fields: Sequence[FieldSpec], entities: Mapping[str, EntitySpec]) -> str | None:
    """Return the first field that identifies an entity: whom records of the event are about."""
    for field in fields:
        if field.name in entities and entities[field.name].dtype == field.dtype:
            return field.name
    return None
