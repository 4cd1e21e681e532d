"""Compiles models, and says what is wrong with them."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from feilun.definitions.code_digest import code_digest
from feilun.definitions.compile_expressions import ExpressionCompiler
from feilun.definitions.compile_features import missing_key
from feilun.definitions.events import Event
from feilun.definitions.features import Feature
from feilun.definitions.models import Model, Outcome
from feilun.definitions.problems import located, shown
from feilun.definitions.scope import Scope
from feilun.definitions.specs import (
    EntitySpec,
    EventSpec,
    FeatureSpec,
    ModelSpec,
    OutcomeSpec,
    Readable,
    RequestSpec,
)
from feilun.definitions.views import FeatureView
from feilun.definitions.windows import WindowError, parse_duration

_HAPPENED = re.compile(r"auc|precision@[1-9][0-9]{0,3}")
"""Metrics for outcomes that happen or not."""
_COUNT = re.compile(r"wape|rmse")
"""Metrics for outcomes that are counted."""


def compile_models(models: Sequence[Model], scope: Scope) -> None:
    """Compile models. Those that are wrong, or whose columns are, are left out."""
    scope.problems.check_unique(((m.name, located(m.site, m.name)) for m in models), "model")
    compiler = _ModelCompiler(scope)
    for model in models:
        spec = compiler.compile(model)
        if spec is not None:
            scope.models[model] = spec


class _ModelCompiler:
    """Compiles models, one at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._problems = scope.problems
        self._expressions = ExpressionCompiler(scope)

    def compile(self, model: Model) -> ModelSpec | None:
        """Return the model's spec, or None if something is wrong with it or with its columns."""
        already = len(self._problems.found)
        where = located(model.site, model.name)
        self._problems.check_name(where, model.name)
        if model.function is not None:
            self._check_function(where, model.function)
        columns = self._columns(where, model)
        label = self._label(where, model)
        self._check_metric(where, model)
        classes = self._classes(where, model, columns)
        if label is None or not columns or len(self._problems.found) > already:
            return None
        spec = ModelSpec(
            name=model.name,
            columns=columns,
            label=label,
            metric=model.metric,
            train=model.function,
            code_digest="" if model.function is None else code_digest(model.function),
            owner=model.owner or self._scope.owner,
            description=model.description or _doc(model.function),
            classes=classes,
        )
        self._check_label_keys(where, model, spec)
        return spec

    def _classes(self, where: str, model: Model, columns: Sequence[Readable]) -> EntitySpec | None:
        """Return the key whose values the model tells apart, if it is a text classifier."""
        if model.classes is None:
            return None
        found = self._scope.entities.get(getattr(model.classes, "name", ""))
        if found is None or found.dtype != "str":
            self._problems.add(
                where,
                f"classes={shown(model.classes)} is not an entity of type str.",
                'Write intent = fl.Entity("intent", str), and classes=intent.',
            )
            return None
        alone = len(columns) == 1 and isinstance(columns[0], FeatureSpec | RequestSpec)
        if columns and (not alone or columns[0].dtype != "str"):
            self._problems.add(
                where,
                "it has classes=, and features= is not one text.",
                'A text classifier reads a text alone: features=[fl.request.param("text", str)].',
            )
        return found

    def _check_function(self, where: str, function: Callable[..., Any]) -> None:
        try:
            inspect.signature(function).bind(None)
        except (TypeError, ValueError):
            self._problems.add(
                where,
                "the function cannot be called with the data alone.",
                "Give it one parameter: data: fl.Dataset.",
            )

    def _columns(self, where: str, model: Model) -> tuple[Readable, ...]:
        """Return the columns, each once; empty if one of the sources is wrong."""
        if not isinstance(model.features, list | tuple) or not model.features:
            self._problems.add(
                where, "features= names no features.", "Give a list of views and features."
            )
            return ()
        columns: dict[str, Readable] = {}
        complete = True
        for source in model.features:
            found = self._column_group(where, source)
            complete = complete and found is not None
            columns.update((column.address, column) for column in found or ())
        if complete and not columns:
            self._problems.add(
                where,
                "its views have only list features, which no model can read.",
                "Add a feature that is one value.",
            )
        return tuple(columns.values()) if complete else ()

    def _column_group(self, where: str, source: object) -> Sequence[Readable] | None:
        if isinstance(source, type) and issubclass(source, FeatureView):
            view = self._scope.views.get(source)
            return [f for f in view.readable if not f.is_list] if view else None
        if isinstance(source, Feature):
            column = self._column(where, source)
            return [column] if column is not None else None
        self._problems.add(
            where,
            f"{shown(source)} is neither a view nor a feature.",
            "Name classes that extend fl.FeatureView, and features of theirs.",
        )
        return None

    def _column(self, where: str, feature: Feature[Any]) -> Readable | None:
        spec = self._expressions.readable(where, feature)
        if spec is not None and spec.is_list:
            self._problems.add(
                where,
                f"{feature!r} is a list, and a model's column is one value.",
                "Leave it out, or give the capability it as candidates.",
            )
            return None
        return spec

    def _label(self, where: str, model: Model) -> OutcomeSpec | None:
        label = model.label
        if not isinstance(label, Outcome):
            self._problems.add(
                where,
                f"label={shown(label)} is not an outcome.",
                'Write fl.outcome(OrderLine, within="30m").',
            )
            return None
        event = self._event(where, label.event)
        try:
            within = parse_duration(label.within)
        except WindowError as error:
            self._problems.add(where, error.what, error.fix)
            return None
        if label.measure not in ("happened", "count"):
            self._problems.add(
                where, f"measure={label.measure!r} is unknown.", 'Write "happened" or "count".'
            )
            return None
        return OutcomeSpec(event.name, within, label.measure) if event else None

    def _event(self, where: str, event: object) -> EventSpec | None:
        if isinstance(event, type) and issubclass(event, Event):
            return self._scope.events.get(event)
        self._problems.add(
            where, f"{shown(event)} is not an event.", "Name a class that extends fl.Event."
        )
        return None

    def _check_metric(self, where: str, model: Model) -> None:
        metric = model.metric if isinstance(model.metric, str) else ""
        if not (_HAPPENED.fullmatch(metric) or _COUNT.fullmatch(metric)):
            self._problems.add(
                where,
                f"metric={model.metric!r} is unknown.",
                'There are "auc", "precision@10" (or any number), "wape" and "rmse".',
            )
            return
        suits = "happened" if _HAPPENED.fullmatch(metric) else "count"
        measure = getattr(model.label, "measure", suits)
        if measure != suits and measure in ("happened", "count"):
            self._problems.add(
                where,
                f"{metric} does not judge outcomes measured as {measure!r}.",
                f'Write measure="{suits}" in fl.outcome, or choose another metric.',
            )

    def _check_label_keys(self, where: str, model: Model, spec: ModelSpec) -> None:
        event = self._scope.events[model.label.event]
        for entity in spec.keys:
            problem = missing_key(event, entity)
            if problem is not None:
                what, fix = problem
                self._problems.add(where, f"no outcome can be joined: {what}", fix)


def _doc(function: Callable[..., Any] | None) -> str:
    return "" if function is None else inspect.getdoc(function) or ""
