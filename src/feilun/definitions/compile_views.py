"""Compiles views, and says what is wrong with them."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feilun.definitions.compile_expressions import ExpressionCompiler
from feilun.definitions.compile_features import FeatureCompiler
from feilun.definitions.encoders import Encoding
from feilun.definitions.features import Aggregated, Expression, Feature, RequestFeature
from feilun.definitions.problems import Problems, located
from feilun.definitions.scope import Scope
from feilun.definitions.specs import EntitySpec, ExpressionSpec, FeatureSpec, ViewSpec
from feilun.definitions.views import Entity, FeatureView

RESERVED_ROUTES = frozenset({"events", "request"})
"""Names under ``/api/`` and in addresses (``request:hour``) that the system uses itself."""


def compile_views(views: Sequence[type[FeatureView]], scope: Scope) -> None:
    """Compile views and their features. A view with a wrong feature is left out."""
    scope.problems.check_unique(
        ((v.__feilun__.name, located(v.__feilun__.site, v.__name__)) for v in views), "view"
    )
    compiler = _ViewCompiler(scope)
    for view in views:
        compiler.compile(view)


class _ViewCompiler:
    """Compiles views, one at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._features = FeatureCompiler(scope)
        self._expressions = ExpressionCompiler(scope)

    def compile(self, view: type[FeatureView]) -> None:
        """Compile one view and its features."""
        scope = self._scope
        declaration = view.__feilun__
        where = located(declaration.site, view.__name__)
        _check_view(view, where, scope.problems)
        keys = _keys(view, where, scope)
        if keys is None:
            return
        own = [(name, value) for name, value in vars(view).items() if isinstance(value, Feature)]
        found = [self._feature(view, keys, name, feature) for name, feature in own]
        if None not in found:
            scope.views[view] = ViewSpec(
                name=declaration.name,
                entities=keys,
                features=tuple(spec for spec in found if isinstance(spec, FeatureSpec)),
                owner=declaration.owner or scope.owner,
                description=declaration.description,
                expressions=tuple(spec for spec in found if isinstance(spec, ExpressionSpec)),
            )

    def _feature(
        self,
        view: type[FeatureView],
        keys: tuple[EntitySpec, ...],
        name: str,
        feature: Feature[Any],
    ) -> FeatureSpec | ExpressionSpec | None:
        """Compile one feature of a view; None if it is wrong."""
        where = located(feature.site, f"{view.__name__}.{name}")
        problems = self._scope.problems
        problems.check_name(where, name)
        spec: FeatureSpec | ExpressionSpec | None = None
        if isinstance(feature, RequestFeature):
            problems.add(
                where,
                "what the request says is no feature of a view.",
                "Write it in the features= of a model.",
            )
        elif isinstance(feature, Encoding):
            problems.add(
                where,
                "the vector of a text is no feature of a view.",
                "Write it in the features= of a model.",
            )
        elif (feature.view, feature.name) != (view, name):
            problems.add(
                where,
                f"this is {feature!r} under a second name.",
                "Write the aggregation again: a feature has one address.",
            )
        elif isinstance(feature, Expression):
            spec = self._expressions.named(where, view, name)
        elif isinstance(feature, Aggregated):
            address = view.__feilun__.name, name
            spec = self._features.compile(where, address, keys, feature.declaration)
        if spec is not None:
            self._scope.features[feature] = spec
        return spec


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
    if not any(isinstance(value, Feature) for value in vars(view).values()):
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
