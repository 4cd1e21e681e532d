"""Finds the definitions of a module: those in its namespace, and those that they refer to."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from feilun.definitions.capabilities import Capability
from feilun.definitions.encoders import Encoding
from feilun.definitions.events import Event, Field
from feilun.definitions.exploration import Thompson
from feilun.definitions.features import Aggregated, Expression, Feature
from feilun.definitions.flywheels import Flywheel, Settings, Trigger
from feilun.definitions.models import Model, Outcome
from feilun.definitions.tables import Table
from feilun.definitions.views import Entity, FeatureView


@dataclass
class Found:
    """The definitions of one project, each once, in the order in which they are met."""

    entities: list[Entity] = field(default_factory=list)
    events: list[type[Event]] = field(default_factory=list)
    views: list[type[FeatureView]] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    capabilities: list[Capability[Any, Any]] = field(default_factory=list)
    flywheels: list[Flywheel] = field(default_factory=list)
    settings: list[Settings] = field(default_factory=list)


def collect(module: ModuleType) -> Found:
    """Walk a module's namespace, and the lists and tuples in it.

    What a definition refers to belongs to the project too, from whatever module it comes. A name
    that is exported twice is found once. Nothing is judged here.
    """
    found = Found()
    for value in list(vars(module).values()):
        _visit(found, value)
    return found


def _visit(found: Found, value: object) -> None:
    if isinstance(value, type):
        _visit_class(found, value)
    elif isinstance(value, list | tuple):
        for part in value:
            _visit(found, part)
    elif isinstance(value, Entity) and value not in found.entities:
        found.entities.append(value)
    elif isinstance(value, Settings) and value not in found.settings:
        found.settings.append(value)
    elif isinstance(value, Model) and value not in found.models:
        found.models.append(value)
        _visit(found, value.features)
        _visit(found, value.label)
        _visit(found, value.classes)
    elif isinstance(value, Capability) and value not in found.capabilities:
        found.capabilities.append(value)
        for part in (value.model, value.candidates, value.fallback, value.reads, value.item):
            _visit(found, part)
        for part in (value.also, value.asks, value.explore):
            _visit(found, part)
    elif isinstance(value, Flywheel) and value not in found.flywheels:
        found.flywheels.append(value)
        _visit(found, value.model)
        _visit(found, value.turn)
    elif isinstance(value, Thompson):
        _visit(found, [value.successes, value.trials])
    else:
        _visit_reference(found, value)


def _visit_class(found: Found, value: type) -> None:
    if issubclass(value, Event) and value not in (Event, Table, *found.events):
        found.events.append(value)
        if issubclass(value, Table):
            _visit(found, value.__feilun_table__.key)
    elif issubclass(value, FeatureView) and value is not FeatureView and value not in found.views:
        found.views.append(value)
        _visit(found, value.__feilun__.entities)
        for feature in vars(value).values():
            if isinstance(feature, Feature):
                _visit_reference(found, feature)


def _visit_reference(found: Found, value: object) -> None:
    if isinstance(value, Feature):
        _visit(found, value.view)
        if isinstance(value, Aggregated):
            _visit(found, value.declaration.source)
        elif isinstance(value, Expression):
            _visit(found, value.left)
            _visit(found, value.right)
        elif isinstance(value, Encoding):
            _visit(found, value.text)
    elif isinstance(value, Field | Outcome):
        _visit(found, value.event)
    elif isinstance(value, Trigger):
        _visit(found, [condition.event for condition in value.conditions])
