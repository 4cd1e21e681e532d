"""Compiles which capabilities ask which others, and says where no answer could come of it."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from feilun.definitions.capabilities import Capability
from feilun.definitions.compile_requests import list_type, scalar_type, show_type
from feilun.definitions.problems import located, nearest, shown
from feilun.definitions.scope import Scope
from feilun.definitions.specs import AskSpec, CapabilitySpec, ParameterSpec

_Specs = Mapping[Capability[Any, Any], CapabilitySpec]


def compile_asks(specs: _Specs, scope: Scope) -> list[CapabilitySpec]:
    """Return the capabilities with what they ask. What was refused before is not spoken of."""
    compiler = _AskCompiler(specs, scope)
    return [compiler.compile(capability) for capability in specs]


class _AskCompiler:
    """Compiles what capabilities ask, one capability at a time."""

    def __init__(self, specs: _Specs, scope: Scope) -> None:
        self._specs = specs
        self._problems = scope.problems
        self._entities = scope.entities

    def compile(self, capability: Capability[Any, Any]) -> CapabilitySpec:
        """Return the capability's spec with what it asks."""
        spec = self._specs[capability]
        where = located(capability.site, capability.name)
        asked: object = capability.asks
        if not isinstance(asked, list | tuple):
            self._problems.add(where, f"asks={asked!r} is not a list.", "Put capabilities in [ ].")
            return spec
        asks: dict[str, AskSpec] = {}
        for each in asked:
            if not isinstance(each, Capability):
                self._problems.add(
                    where,
                    f"asks= names {shown(each)}, which is not a capability.",
                    "Name functions that @fl.capability decorates.",
                )
                continue
            inner = self._specs.get(each)
            if inner is not None and self._ends(where, capability, each):
                if inner.name in asks:
                    self._problems.add(where, f"{inner.path} is asked twice.", "Name it once.")
                asks[inner.name] = self._ask(where, spec, inner)
        return replace(spec, asks=tuple(asks.values()))

    def _ends(
        self, where: str, capability: Capability[Any, Any], asked: Capability[Any, Any]
    ) -> bool:
        """Check that what is asked does not, in the end, ask the one that asks it."""
        way = _way(asked, capability, ())
        if way is None:
            return True
        told = ", which asks ".join(each.path for each in way)
        self._problems.add(
            where,
            f"{capability.path} asks {told}: each would wait for the other.",
            "Leave one of them out of asks=.",
        )
        return False

    def _ask(self, where: str, outer: CapabilitySpec, inner: CapabilitySpec) -> AskSpec:
        """Return how the one asks the other: which of its parameters have which values."""
        said = {parameter.name: parameter for parameter in outer.parameters}
        rows = self._rows(inner) if inner.item == outer.item else None
        same: list[str] = []
        for parameter in inner.parameters:
            if parameter.name == rows:
                continue
            if parameter.name in said:
                same.append(parameter.name)
                self._check_type(where, said[parameter.name], parameter, inner)
            elif parameter.required:
                self._problems.add(
                    where,
                    f"{inner.path}, which it asks, takes {parameter.name!r}, and the request does "
                    "not say it.",
                    f"Add a parameter {parameter.name}: {show_type(parameter.annotation)}, or give "
                    f"it a default there. {nearest(parameter.name, said)}",
                )
        return AskSpec(inner.name, rows, tuple(same), self._is_personal(where, outer, inner))

    def _check_type(
        self, where: str, said: ParameterSpec, taken: ParameterSpec, inner: CapabilitySpec
    ) -> None:
        if said.annotation != taken.annotation:
            self._problems.add(
                where,
                f"the parameter {said.name!r} is {show_type(said.annotation)}, but "
                f"{inner.path}, which it asks, takes {show_type(taken.annotation)}.",
                "Annotate both alike, or give one of them another name.",
            )

    def _is_personal(self, where: str, outer: CapabilitySpec, inner: CapabilitySpec) -> bool:
        """Return whether the inner one reads by the outer's subject, which it then names first.

        Only the first entity that a request names is left out of an answer that is not
        personalised.
        """
        named, read = self._named(outer), self._named(inner)
        if not named or named[0] not in read:
            return False
        if read[0] != named[0]:
            self._problems.add(
                where,
                f"it is about {named[0]!r}, but {inner.path}, which it asks, is about {read[0]!r}: "
                "an answer that is not personalised would be.",
                f"Put the parameter {named[0]} first in both.",
            )
        return True

    def _rows(self, spec: CapabilitySpec) -> str | None:
        """Return the parameter that lists the rows which a capability scores, if it has one."""
        own = next((p for p in spec.parameters if p.name == spec.item), None)
        if own is not None:
            return None if scalar_type(own.annotation) else own.name
        if spec.candidates:
            return None
        dtype = self._entities[spec.item].dtype
        return next((p.name for p in spec.parameters if list_type(p.annotation) == dtype), None)

    def _named(self, spec: CapabilitySpec) -> list[str]:
        """Return the entities that a request names one of, in order."""
        return [
            p.name
            for p in spec.parameters
            if p.name in self._entities and not list_type(p.annotation)
        ]


def _way(
    start: Capability[Any, Any],
    end: Capability[Any, Any],
    passed: tuple[Capability[Any, Any], ...],
) -> tuple[Capability[Any, Any], ...] | None:
    """Return the capabilities on the way from one that is asked to another; None if none leads."""
    if start is end:
        return (end,)
    asked: object = start.asks
    for each in asked if isinstance(asked, list | tuple) else ():
        if isinstance(each, Capability) and each not in passed:
            rest = _way(each, end, (*passed, start))
            if rest is not None:
                return (start, *rest)
    return None
