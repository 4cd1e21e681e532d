"""Compiles capabilities, and says what is wrong with them."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from feilun.definitions.capabilities import Capability
from feilun.definitions.compile_asks import compile_asks
from feilun.definitions.compile_exploration import check_evidence, compile_exploration
from feilun.definitions.compile_expressions import ExpressionCompiler
from feilun.definitions.compile_features import missing_key
from feilun.definitions.compile_requests import list_type, read_request, scalar_type, show_type
from feilun.definitions.compile_views import RESERVED_ROUTES
from feilun.definitions.features import Feature
from feilun.definitions.models import Model
from feilun.definitions.problems import located, nearest, shown
from feilun.definitions.scope import Scope
from feilun.definitions.specs import (
    CapabilitySpec,
    ClassSpec,
    EncodingSpec,
    EntitySpec,
    ExpressionSpec,
    FeatureSpec,
    ModelSpec,
    ParameterSpec,
    Readable,
    RequestSpec,
    ThompsonSpec,
    inputs_of,
)

_PATH = re.compile(r"/api/([a-z][a-z0-9_]{0,62})")


def compile_capabilities(
    capabilities: Sequence[Capability[Any, Any]], scope: Scope
) -> list[CapabilitySpec]:
    """Compile capabilities. Those that are wrong are left out."""
    scope.problems.check_unique(
        ((str(c.path), located(c.site, c.name)) for c in capabilities), "capability"
    )
    compiler = _CapabilityCompiler(scope)
    specs = {capability: compiler.compile(capability) for capability in capabilities}
    return compile_asks(
        {capability: spec for capability, spec in specs.items() if spec is not None}, scope
    )


class _CapabilityCompiler:
    """Compiles capabilities, one at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._problems = scope.problems
        self._expressions = ExpressionCompiler(scope)

    def compile(self, capability: Capability[Any, Any]) -> CapabilitySpec | None:
        """Return the capability's spec, or None if it, or what it refers to, is wrong."""
        already = len(self._problems.found)
        where = located(capability.site, capability.name)
        name = self._name(where, capability.path)
        parameters, returns = read_request(where, capability.function, self._problems)
        candidates = self._candidates(where, capability.candidates)
        reads = self._each(where, "reads", capability.reads)
        fallback = self._fallback(where, capability.fallback)
        explore = compile_exploration(where, capability.explore, self._feature, self._problems)
        if isinstance(explore, ThompsonSpec):
            evidence = (explore.successes, explore.trials)
            reads += tuple(each for each in evidence if each not in reads)
        opt_out = self._opt_out(where, capability.opt_out, parameters)
        model = self._model(where, capability.model)
        also = self._also(where, capability.also, model)
        if model is None or name is None or len(self._problems.found) > already:
            return None
        item = self._item(where, capability, model, candidates, parameters)
        if item is None:
            return None
        spec = CapabilitySpec(
            name=name,
            path=capability.path,
            model=model.name,
            item=item.name,
            candidates=candidates,
            fallback=fallback,
            reads=reads,
            parameters=parameters,
            returns=returns,
            function=capability.function,
            owner=capability.owner or self._scope.owner,
            description=capability.description or inspect.getdoc(capability.function) or "",
            explore=explore,
            opt_out=opt_out,
            also=tuple(each.name for each in also),
        )
        self._check_rows(where, spec, item, model)
        self._check_fallback(where, spec, item)
        check_evidence(where, spec, item, self._problems)
        for each in (model, *also):
            self._check_classes(where, each, parameters)
            self._check_keys(where, spec, each)
            self._check_request(where, spec, each)
        for each in also:
            self._check_also(where, item, each, parameters)
        return spec

    def _name(self, where: str, path: object) -> str | None:
        match = _PATH.fullmatch(path) if isinstance(path, str) else None
        if match is None or match[1].startswith("feilun"):
            self._problems.add(
                where,
                f"{path!r} is not the path of a capability.",
                'Write "/api/" and a name in snake_case, such as "/api/recommend".',
            )
            return None
        if match[1] in RESERVED_ROUTES or match[1] in {v.name for v in self._scope.views.values()}:
            self._problems.add(
                where, f"{path} is taken, by the system or by a view.", "Choose another path."
            )
            return None
        return match[1]

    def _model(self, where: str, model: object) -> ModelSpec | None:
        if isinstance(model, Model):
            return self._scope.models.get(model)
        self._problems.add(
            where, f"model={model!r} is not a model.", "Name a function that @fl.model decorates."
        )
        return None

    def _also(self, where: str, models: object, model: ModelSpec | None) -> tuple[ModelSpec, ...]:
        """Return the other models that score the rows."""
        if not isinstance(models, list | tuple):
            self._problems.add(where, f"also={models!r} is not a list.", "Put models in [ ].")
            return ()
        found: list[ModelSpec] = []
        for each in models:
            if not isinstance(each, Model):
                self._problems.add(
                    where,
                    f"also= names {shown(each)}, which is not a model.",
                    "Name functions that @fl.model decorates.",
                )
            elif (spec := self._scope.models.get(each)) is not None:
                if spec in (model, *found):
                    self._problems.add(
                        where, f"{spec.name} scores the rows already.", "Name each model once."
                    )
                found.append(spec)
        return tuple(found)

    def _check_also(
        self, where: str, item: EntitySpec, model: ModelSpec, parameters: Sequence[ParameterSpec]
    ) -> None:
        """Check that a model that also scores can tell the rows apart, if there are several."""
        if item in model.keys:
            return
        if any(p.name == item.name and scalar_type(p.annotation) for p in parameters):
            self._one_row(where, item, model)
        else:
            self._same_score(where, item.name, model)

    def _same_score(self, where: str, item: str, model: ModelSpec) -> None:
        self._problems.add(
            where,
            f"the rows differ by {item!r}, which is no key of the model {model.name!r}: "
            "all would have the same score.",
            "Give the model a feature of that entity. "
            f"{nearest(item, [key.name for key in model.keys])}",
        )

    def _candidates(self, where: str, features: object) -> tuple[FeatureSpec, ...]:
        specs = self._each(where, "candidates", features)
        for spec in specs:
            if not spec.is_list:
                self._problems.add(
                    where,
                    f"{spec.address} is one value, and candidates are lists.",
                    "Give its fl.last or fl.top an n=.",
                )
        return tuple(spec for spec in specs if isinstance(spec, FeatureSpec))

    def _fallback(self, where: str, feature: object) -> FeatureSpec | ExpressionSpec | None:
        spec = None if feature is None else self._feature(where, "fallback", feature)
        if isinstance(spec, RequestSpec | EncodingSpec | ClassSpec):
            self._problems.add(
                where,
                f"the fallback {spec.address} is "
                + ("a vector." if isinstance(spec, EncodingSpec) else "alike for all rows."),
                "Take a list of this key, or a number for each.",
            )
            return None
        return spec

    def _each(self, where: str, setting: str, features: object) -> tuple[Readable, ...]:
        if not isinstance(features, list | tuple):
            self._problems.add(
                where, f"{setting}={features!r} is not a list.", "Put features in [ ]."
            )
            return ()
        specs = [self._feature(where, setting, feature) for feature in features]
        return tuple(spec for spec in specs if spec is not None)

    def _feature(self, where: str, setting: str, feature: object) -> Readable | None:
        """Return a feature's spec; None if it is none, or is wrong and was noted there."""
        if isinstance(feature, Feature):
            return self._expressions.readable(where, feature)
        self._problems.add(
            where,
            f"{setting}= names {shown(feature)}, which is not a feature.",
            "Name features by their view: UserProfile.recent_items.",
        )
        return None

    def _opt_out(
        self, where: str, feature: object, parameters: Sequence[ParameterSpec]
    ) -> FeatureSpec | None:
        """Return the feature that is true of who wants no personalisation."""
        spec = None if feature is None else self._feature(where, "opt_out", feature)
        if spec is None:
            return None
        entities = {entity.name for entity in self._scope.entities.values()}
        named = [p.name for p in parameters if p.name in entities and not list_type(p.annotation)]
        yes_or_no = isinstance(spec, FeatureSpec) and spec.dtype in ("bool", "int")
        if not yes_or_no or spec.is_list:
            self._problems.add(
                where, f"{spec.address} is not true or false.", "Take the last of a bool field."
            )
        elif [key.name for key in spec.keys] != named[:1]:
            self._problems.add(
                where,
                f"{spec.address} is not about whom the request is about.",
                f"Take it from a view of {_or_none(named[:1])}.",
            )
        return spec if isinstance(spec, FeatureSpec) else None

    def _item(
        self,
        where: str,
        capability: Capability[Any, Any],
        model: ModelSpec,
        candidates: Sequence[FeatureSpec],
        parameters: Sequence[ParameterSpec],
    ) -> EntitySpec | None:
        """Return the key that differs between the rows: as said, or as found.

        A request that gives one of each key is about one row, of the last of them.
        """
        keys = {entity.name: entity for entity in model.keys}
        single = {p.name for p in parameters if scalar_type(p.annotation)}
        if capability.item is not None:
            names = [getattr(capability.item, "name", str(capability.item))]
        elif candidates:
            names = list(dict.fromkeys(str(feature.fold.field) for feature in candidates))
        else:
            names = [p.name for p in parameters if list_type(p.annotation) and p.name in keys]
            if not names and model.classes is not None:
                names = [model.classes.name]
            elif not names and keys.keys() <= single:
                names = [p.name for p in parameters if p.name in keys][-1:]
        if len(names) != 1:
            self._problems.add(
                where,
                f"there is no telling which rows to score: {_or_none(names)}.",
                "Give candidates= of one key, or one parameter that is named as a key of the "
                f"model ({_or_none(keys)}), such as item_id: list[int]; or say item=.",
            )
            return None
        if names[0] not in keys and names[0] in single and names[0] in self._scope.entities:
            return self._one_row(where, self._scope.entities[names[0]], model)
        if names[0] not in keys:
            self._same_score(where, names[0], model)
            return None
        return keys[names[0]]

    def _one_row(self, where: str, item: EntitySpec, model: ModelSpec) -> EntitySpec | None:
        """Return what the one row of a request is about, if outcomes can be joined by it."""
        event = next(e for e in self._scope.events.values() if e.name == model.label.event)
        if problem := missing_key(event, item):
            self._problems.add(where, f"no outcome can be joined: {problem[0]}", problem[1])
            return None
        return item

    def _check_rows(
        self, where: str, spec: CapabilitySpec, item: EntitySpec, model: ModelSpec
    ) -> None:
        """Check that candidates and the list parameter hold keys of the item's type."""
        for feature in spec.candidates:
            if feature.dtype != item.dtype:
                self._problems.add(
                    where,
                    f"the candidates {feature.address} are {feature.dtype}, but {item.name!r} is "
                    f"{item.dtype}.",
                    "Take them from a field that holds this key.",
                )
            if item in feature.keys:
                self._problems.add(
                    where,
                    f"the candidates {feature.address} can only be read when {item.name!r} is "
                    "known.",
                    "Take them from a view without this entity.",
                )
        own = [p for p in spec.parameters if p.name == item.name]
        lists = own or [p for p in spec.parameters if list_type(p.annotation) == item.dtype]
        if own and not spec.candidates and scalar_type(own[0].annotation) == item.dtype:
            return  # one row a request
        if own and list_type(own[0].annotation) != item.dtype:
            self._problems.add(
                where,
                f"the parameter {item.name!r} names the rows to score, and is "
                f"{show_type(own[0].annotation)}.",
                f"Annotate it as list[{item.dtype}].",
            )
        elif not spec.candidates and not lists and model.classes != item:
            self._problems.add(
                where,
                "nothing says which rows to score.",
                f"Give candidates=, or a parameter {item.name}: list[{item.dtype}].",
            )

    def _check_classes(
        self, where: str, model: ModelSpec, parameters: Sequence[ParameterSpec]
    ) -> None:
        """Check that outcomes of one class can be told apart: every request has the same rows."""
        if model.classes is None:
            return
        event = next(e for e in self._scope.events.values() if e.name == model.label.event)
        fields = {field.name for field in event.fields}
        entities = {entity.name for entity in self._scope.entities.values()}
        entities.discard(model.classes.name)
        named = [p.name for p in parameters if p.name in entities and scalar_type(p.annotation)]
        if not any(name in fields for name in named):
            self._problems.add(
                where,
                f"every request has the same rows, and nothing tells which {event.name} is of "
                "which request.",
                "Add a parameter that is an entity and a field of the event, such as "
                "message_id: str.",
            )

    def _check_fallback(self, where: str, spec: CapabilitySpec, item: EntitySpec) -> None:
        fallback = spec.fallback
        if fallback is None:
            return
        if fallback.is_list and fallback.dtype != item.dtype:
            self._problems.add(
                where,
                f"the fallback {fallback.address} lists {fallback.dtype}, but {item.name!r} is "
                f"{item.dtype}.",
                "Take a list of this key, or a number for each.",
            )
        elif not fallback.is_list and (
            fallback.dtype in ("str", "vector") or item not in fallback.keys
        ):
            self._problems.add(
                where,
                f"the fallback {fallback.address} is not a number for each {item.name!r}.",
                "Take a list of this key, or a number from a view of this entity.",
            )

    def _check_keys(self, where: str, spec: CapabilitySpec, model: ModelSpec) -> None:
        """Check that the request names every entity that something must be read for."""
        parameters = {parameter.name: parameter for parameter in spec.parameters}
        extra = (spec.fallback,) if spec.fallback else ()
        needed: dict[str, tuple[EntitySpec, str]] = {}
        for feature in (*model.features, *spec.candidates, *spec.reads, *extra):
            for entity in feature.keys:
                needed.setdefault(entity.name, (entity, feature.address))
        needed.pop(spec.item, None)
        for name, (entity, address) in needed.items():
            parameter = parameters.get(name)
            if parameter is None:
                self._problems.add(
                    where,
                    f"{address} is read by {name!r}, and the request does not say which.",
                    f"Add a parameter {name}: {entity.dtype}. {nearest(name, parameters)}",
                )
            elif scalar_type(parameter.annotation) != entity.dtype:
                self._problems.add(
                    where,
                    f"the parameter {name!r} is {show_type(parameter.annotation)}, "
                    f"but as a key it is {entity.dtype}.",
                    f"Annotate it as {entity.dtype}.",
                )

    def _check_request(self, where: str, spec: CapabilitySpec, model: ModelSpec) -> None:
        """Check that the request has the parameters that columns are taken from."""
        parameters = {parameter.name: parameter for parameter in spec.parameters}
        extra = (spec.fallback,) if spec.fallback else ()
        for wanted in inputs_of((*model.columns, *spec.reads, *extra)):
            if not isinstance(wanted, RequestSpec) or wanted.is_moment:
                continue
            parameter = parameters.get(wanted.name)
            if parameter is None:
                self._problems.add(
                    where,
                    f"the parameter {wanted.name!r} is a feature, and the request does not have "
                    "it.",
                    f"Add a parameter {wanted.name}: {wanted.dtype}. "
                    f"{nearest(wanted.name, parameters)}",
                )
            elif scalar_type(parameter.annotation) != wanted.dtype:
                self._problems.add(
                    where,
                    f"the parameter {wanted.name!r} is {show_type(parameter.annotation)}, "
                    f"but as a feature it is {wanted.dtype}.",
                    f"Annotate it as {wanted.dtype}.",
                )


def _or_none(names: Any) -> str:
    return " or ".join(names) or "none is named"
