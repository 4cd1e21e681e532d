"""Compiles views, and says what is wrong with them."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feilun.definitions.compile_features import FeatureCompiler
from feilun.definitions.features import Expression, Feature
from feilun.definitions.problems import Problems, located
from feilun.definitions.scope import Scope
from feilun.definitions.specs import EntitySpec, FeatureSpec, ViewSpec
from feilun.definitions.views import Entity, FeatureView

RESERVED_ROUTES = frozenset({"events"})
"""Names under ``/api/`` that the system uses itself."""


def compile_views(views: Sequence[type[FeatureView]], scope: Scope) -> None:
    """Compile views and their features. A view with a wrong feature is left out."""
    compiler = FeatureCompiler(scope)
    scope.problems.check_unique(
        ((v.__feilun__.name, located(v.__feilun__.site, v.__name__)) for v in views), "view"
    )
    for view in views:
        declaration = view.__feilun__
        where = located(declaration.site, view.__name__)
        _check_view(view, where, scope.problems)
        keys = _keys(view, where, scope)
        if keys is None:
            continue
        features = _features(view, keys, compiler, scope)
        scope.features.update(features)
        if len(features) == sum(isinstance(value, Feature) for value in vars(view).values()):
            scope.views[view] = ViewSpec(
                name=declaration.name,
                entities=keys,
                features=tuple(features.values()),
                owner=declaration.owner or scope.owner,
                description=declaration.description,
            )


def _features(
    view: type[FeatureView],
    keys: tuple[EntitySpec, ...],
    compiler: FeatureCompiler,
    scope: Scope,
) -> dict[Feature[Any], FeatureSpec]:
    """Return the features of a view that are right."""
    features: dict[Feature[Any], FeatureSpec] = {}
    for name, feature in vars(view).items():
        if not isinstance(feature, Feature):
            continue
        where = located(feature.declaration.site, f"{view.__name__}.{name}")
        scope.problems.check_name(where, name)
        if (feature.view, feature.name) != (view, name):
            scope.problems.add(
                where,
                f"this is {feature!r} under a second name.",
                "Write the aggregation again: a feature has one address.",
            )
            continue
        address = view.__feilun__.name, name
        spec = compiler.compile(where, address, keys, feature.declaration)
        if spec is not None:
            features[feature] = spec
    return features


def _check_view(view: type[FeatureView], where: str, problems: Problems) -> None:
    name = view.__feilun__.name
    if problems.check_name(where, name) and name in RESERVED_ROUTES:
        problems.add(where, f"/api/{name} is the system's own.", "Rename the view.")
    if view.__bases__ != (FeatureView,):
        problems.add(
            where,
            "a view extends fl.FeatureView and nothing else.",
            "Write its features out; views do not inherit them.",
        )
    for attribute, value in vars(view).items():
        if isinstance(value, Expression):
            problems.add(
                f"{where}.{attribute}",
                "arithmetic over features is not a feature.",
                "Move it to the features= of the models that need it.",
            )
    if not any(isinstance(value, Feature | Expression) for value in vars(view).values()):
        problems.add(where, "a view needs a feature.", "Write one: orders = fl.count(OrderLine).")


def _keys(view: type[FeatureView], where: str, scope: Scope) -> tuple[EntitySpec, ...] | None:
    """Return the view's keys; None if one is wrong."""
    problems = scope.problems
    given = view.__feilun__.entities
    if not all(isinstance(entity, Entity) for entity in given):
        problems.add(
            where, f"entity={given!r} is not an entity.", "Give fl.Entity(…), or a tuple of them."
        )
        return None
    names = [entity.name for entity in given]
    if len(set(names)) < len(names):
        problems.add(where, "an entity comes twice in entity=.", "Name each once.")
        return None
    if not all(name in scope.entities for name in names):
        return None  # the entity is wrong, and was noted there
    return tuple(scope.entities[name] for name in names)
