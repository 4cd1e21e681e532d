"""Feilun turns scattered AI projects into one system that improves itself.

A project is one module of definitions, written with the names below: ``import feilun as fl``.
Each name is loaded when it is first used, so that a command that needs none starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feilun.definitions.aggregations import (
        count,
        custom,
        decayed,
        distinct,
        first,
        last,
        max,
        mean,
        min,
        quantile,
        since_last,
        std,
        sum,
        top,
        var,
    )
    from feilun.definitions.capabilities import capability
    from feilun.definitions.compiler import compile_project as compile
    from feilun.definitions.conditions import Condition
    from feilun.definitions.custom import Aggregation
    from feilun.definitions.encoders import encoder
    from feilun.definitions.events import Event, Field, Vector
    from feilun.definitions.exploration import epsilon, thompson
    from feilun.definitions.features import Expression, Feature, cosine, request, same
    from feilun.definitions.flywheels import Flywheel, Settings, after, better, no_worse
    from feilun.definitions.models import adopted, model, outcome
    from feilun.definitions.rows import Dataset, Scored
    from feilun.definitions.tables import Table
    from feilun.definitions.views import Entity, FeatureView

__all__ = [
    "Aggregation",
    "Condition",
    "Dataset",
    "Entity",
    "Event",
    "Expression",
    "Feature",
    "FeatureView",
    "Field",
    "Flywheel",
    "Scored",
    "Settings",
    "Table",
    "Vector",
    "adopted",
    "after",
    "better",
    "capability",
    "compile",
    "cosine",
    "count",
    "custom",
    "decayed",
    "distinct",
    "encoder",
    "epsilon",
    "first",
    "last",
    "max",
    "mean",
    "min",
    "model",
    "no_worse",
    "outcome",
    "quantile",
    "request",
    "same",
    "since_last",
    "std",
    "sum",
    "thompson",
    "top",
    "var",
]

_HOMES = {
    "Aggregation": "custom.Aggregation",
    "Condition": "conditions.Condition",
    "Dataset": "rows.Dataset",
    "Entity": "views.Entity",
    "Event": "events.Event",
    "Expression": "features.Expression",
    "Feature": "features.Feature",
    "FeatureView": "views.FeatureView",
    "Field": "events.Field",
    "Flywheel": "flywheels.Flywheel",
    "Scored": "rows.Scored",
    "Settings": "flywheels.Settings",
    "Table": "tables.Table",
    "Vector": "events.Vector",
    "adopted": "models.adopted",
    "after": "flywheels.after",
    "better": "flywheels.better",
    "capability": "capabilities.capability",
    "compile": "compiler.compile_project",
    "cosine": "features.cosine",
    "count": "aggregations.count",
    "custom": "aggregations.custom",
    "decayed": "aggregations.decayed",
    "distinct": "aggregations.distinct",
    "encoder": "encoders.encoder",
    "epsilon": "exploration.epsilon",
    "first": "aggregations.first",
    "last": "aggregations.last",
    "max": "aggregations.max",
    "mean": "aggregations.mean",
    "min": "aggregations.min",
    "model": "models.model",
    "no_worse": "flywheels.no_worse",
    "outcome": "models.outcome",
    "quantile": "aggregations.quantile",
    "request": "features.request",
    "same": "features.same",
    "since_last": "aggregations.since_last",
    "std": "aggregations.std",
    "sum": "aggregations.sum",
    "thompson": "exploration.thompson",
    "top": "aggregations.top",
    "var": "aggregations.var",
}


if not TYPE_CHECKING:  # to a type checker, it would make every misspelt name right

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'feilun' has no attribute {name!r}")
        module, _, attribute = _HOMES[name].partition(".")
        value = getattr(import_module(f"feilun.definitions.{module}"), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
