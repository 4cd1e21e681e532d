"""Compiles what has a value for each row: features, arithmetic over them, the request itself."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from feilun.definitions.compile_requests import scalar_type
from feilun.definitions.encoders import Encoder, Encoding
from feilun.definitions.features import (
    Expression,
    Feature,
    RequestFeature,
    request,
    unplaced,
)
from feilun.definitions.problems import shown
from feilun.definitions.scope import Scope
from feilun.definitions.specs import (
    EncodingSpec,
    ExpressionSpec,
    FeatureSpec,
    Readable,
    RequestSpec,
)
from feilun.definitions.views import has_view

MAX_DIM = 4096
"""The most numbers that a vector of a text may have."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ExpressionCompiler:
    """Compiles features and arithmetic, one at a time."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._problems = scope.problems

    def readable(self, where: str, feature: Feature[Any]) -> Readable | None:
        """Return the spec of what has a value for each row; None if it is wrong."""
        if isinstance(feature, RequestFeature):
            return self._request(where, feature)
        if isinstance(feature, Encoding):
            return self._encoding(where, feature)
        if isinstance(feature, Expression) and not has_view(feature):
            return self.expression(where, feature)
        spec = self._scope.features.get(feature)
        if spec is None and not has_view(feature):
            self._problems.found.append(unplaced(feature))
        return spec

    def expression(self, where: str, expression: Expression) -> ExpressionSpec | None:
        """Return the spec of arithmetic, without a name; None if an operand is wrong."""
        left, right = (self._side(where, side) for side in (expression.left, expression.right))
        if left is None or right is None:
            return None
        problem = _problem(expression, left, right)
        if problem is not None:
            self._problems.add(where, *problem)
            return None
        return ExpressionSpec(expression.op, left, right)

    def named(self, where: str, view: type[Any], name: str) -> ExpressionSpec | None:
        """Return the expression that is an attribute of a view; None if it is wrong."""
        expression = vars(view)[name]
        for operand in _operands(expression):
            if operand.view is not view and (
                has_view(operand) or isinstance(operand, RequestFeature | Encoding)
            ):
                self._problems.add(
                    where,
                    f"a view computes from its own features, and {operand!r} is not one.",
                    "Move it to the features= of the models that need it.",
                )
                return None
        spec = self.expression(where, expression)
        return spec and replace(spec, view=view.__feilun__.name, name=name)

    def _side(self, where: str, source: object) -> Readable | float | None:
        if isinstance(source, Feature):
            return self.readable(where, source)
        if isinstance(source, int | float) and math.isfinite(source):
            return float(source)
        self._problems.add(
            where, f"{source!r} cannot take part in arithmetic.", "Use features and finite numbers."
        )
        return None

    def _encoding(self, where: str, feature: Encoding) -> EncodingSpec | None:
        encoder, text = feature.encoder, feature.text
        known = self._check_encoder(where, encoder)
        spec = self.readable(where, text) if isinstance(text, Feature) else None
        if not isinstance(text, Feature) or (spec is not None and _kind(spec) != "text"):
            kind = _kind(spec) if spec is not None else repr(text)
            self._problems.add(
                where,
                f"{encoder!r} encodes a text, and {text!r} is {kind}.",
                'Give it fl.request.param("query", str), or a feature that is one text.',
            )
            return None
        if not known or not isinstance(spec, FeatureSpec | RequestSpec):
            return None
        return EncodingSpec(encoder.name, encoder.digest, encoder.dim, spec)

    def _check_encoder(self, where: str, encoder: Encoder) -> bool:
        """Return whether an encoder is named, sized and versioned as it must be."""
        already = len(self._problems.found)
        self._problems.check_name(where, encoder.name)
        if type(encoder.dim) is not int or not 1 <= encoder.dim <= MAX_DIM:
            self._problems.add(
                where,
                f"{encoder!r} has dim={encoder.dim!r}.",
                f"Give the number that feilun encoder add prints, at most {MAX_DIM}.",
            )
        if not isinstance(encoder.digest, str) or not _DIGEST.fullmatch(encoder.digest):
            self._problems.add(
                where,
                f"{encoder!r} has digest={encoder.digest!r}, which is no version.",
                "Add its folder with feilun encoder add, which prints the line to write.",
            )
        version = encoder.digest, encoder.dim
        if self._scope.encoders.setdefault(encoder.name, version) != version:
            self._problems.add(
                where,
                f"{encoder!r} is another version than elsewhere in the project.",
                "Give the other version another name.",
            )
        return len(self._problems.found) == already

    def _request(self, where: str, feature: RequestFeature[Any]) -> RequestSpec | None:
        name = feature.parameter
        if feature.is_moment:
            return RequestSpec(name, "int", self._scope.timezone)
        if hasattr(request, str(name)):
            self._problems.add(
                where,
                f"{name!r} is the request's own, not a parameter.",
                f"Write fl.request.{name}, or rename the parameter.",
            )
            return None
        dtype = scalar_type(feature.dtype)
        if dtype is None:
            self._problems.add(
                where,
                f"{shown(feature.dtype)} cannot be the type of a request's parameter.",
                "Write int, float, str or bool.",
            )
        elif name in self._scope.entities:
            self._problems.add(
                where,
                f"the parameter {name!r} is a key.",
                "A key is no number to learn from: use features of its entity.",
            )
        elif self._problems.check_name(where, name):
            return RequestSpec(name, dtype)
        return None


def _operands(expression: Expression) -> Iterator[Feature[Any]]:
    """Return the features that arithmetic without a name is made of."""
    for side in (expression.left, expression.right):
        if isinstance(side, Expression) and side.view is None:
            yield from _operands(side)
        elif isinstance(side, Feature):
            yield side


def _problem(
    expression: Expression, left: Readable | float, right: Readable | float
) -> tuple[str, str] | None:
    """Return what is wrong with the operands, and what to do; None if they suit each other."""
    kinds = _kind(left), _kind(right)
    if expression.op in ("cosine", "same"):
        vectors = expression.op == "cosine"
        suits = kinds[0].startswith("a vector") if vectors else kinds[0] in ("a number", "text")
        if suits and kinds[0] == kinds[1]:
            return None
        return (
            f"{expression!r} compares {kinds[0]} with {kinds[1]}.",
            "Take two vectors of one length." if vectors else "Take two texts or two numbers.",
        )
    for side, kind in zip((expression.left, expression.right), kinds, strict=True):
        if kind != "a number":
            return f"{side!r} is {kind} and takes no part in arithmetic.", "Use numbers."
    if expression.op == "/" and right == 0.0:
        return f"{expression!r} divides by zero.", "Divide by something."
    return None


def _kind(side: Readable | float) -> str:
    if not isinstance(side, Readable):
        return "a number"
    if side.is_list:
        return "a list"
    if side.dtype == "vector":
        return f"a vector of {side.width}"
    return "text" if side.dtype == "str" else "a number"
