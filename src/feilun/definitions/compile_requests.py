"""Compiles the parameters of a capability's function to those of its request."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_origin, get_type_hints

from feilun.definitions.problems import READ_OPTIONS, Problems
from feilun.definitions.rows import Scored
from feilun.definitions.specs import DType, FieldSpec, ParameterSpec
from feilun.definitions.values import checked_value


def scalar_type(annotation: Any) -> DType | None:
    """Return the type of a parameter that is one value; None if it is none."""
    if annotation is int:
        return "int"
    if annotation is float:
        return "float"
    if annotation is str:
        return "str"
    return "bool" if annotation is bool else None


def list_type(annotation: Any) -> DType | None:
    """Return the type of the values of a parameter that is a list; None if it is none."""
    if get_origin(annotation) is not list:
        return None
    values = scalar_type(get_args(annotation)[0])
    return values if values in ("int", "str") else None


def read_request(
    where: str, function: Callable[..., Any], problems: Problems
) -> tuple[tuple[ParameterSpec, ...], Any]:
    """Return the parameters of the request and the type of the reply."""
    try:
        hints = get_type_hints(function)
    except Exception as error:  # an annotation is the user's own expression: anything may come
        problems.add(
            where,
            f"an annotation cannot be read ({type(error).__name__}: {error}).",
            "Import or define the name it uses at the top of the module.",
        )
        return (), Any
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or hints.get(parameters[0].name) is not Scored:
        problems.add(
            where,
            "the first parameter is not what was scored.",
            "Begin the function's parameters with scored: fl.Scored.",
        )
    if inspect.iscoroutinefunction(function):
        problems.add(where, "the function is async.", "Write def: it is called as it is.")
    specs = [
        _parameter(f"{where}({p.name})", p, hints.get(p.name), problems) for p in parameters[1:]
    ]
    return tuple(specs), hints.get("return", Any)


def _parameter(
    where: str, parameter: inspect.Parameter, annotation: Any, problems: Problems
) -> ParameterSpec:
    name, default = parameter.name, None
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        problems.add(where, "a request has named parameters only.", "Leave out *, ** and /.")
    elif problems.check_name(where, name) and name in READ_OPTIONS:
        problems.add(where, f"every read has {name!r} already.", "Rename the parameter.")
    if scalar_type(annotation) is None and list_type(annotation) is None:
        problems.add(
            where,
            f"{show_type(annotation)} cannot be the type of a parameter.",
            "Annotate it as int, float, str, bool, list[int] or list[str].",
        )
    elif parameter.default is not parameter.empty:
        try:
            default = _checked_default(annotation, parameter.default)
        except ValueError as error:
            problems.add(where, f"the default {error}.", "Give it the parameter's type.")
    return ParameterSpec(name, annotation, parameter.default is parameter.empty, default)


def _checked_default(annotation: Any, default: Any) -> Any:
    """Return a default as the parameter takes it, or raise ValueError with what is wrong."""
    scalar, listed = scalar_type(annotation), list_type(annotation)
    if scalar is not None:
        return checked_value(FieldSpec("default", scalar), default)
    if not isinstance(default, list):
        raise ValueError(f"must be a list, not {default!r}")
    return [checked_value(FieldSpec("default", listed or "str"), value) for value in default]


def show_type(annotation: Any) -> str:
    """Write a type as the user's file does."""
    if annotation is None:
        return "nothing"
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation)
