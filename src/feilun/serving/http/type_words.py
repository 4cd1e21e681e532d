"""A parameter's type in plain words, for whoever has to give one."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

_ONE = {
    inspect.IntType: ("a whole number", "whole numbers"),
    inspect.FloatType: ("a number", "numbers"),
    inspect.StrType: ("a text", "texts"),
    inspect.BoolType: ("true or false", "true or false"),
    inspect.NoneType: ("null", "null"),
    inspect.AnyType: ("any value", "any values"),
    inspect.DateTimeType: ("a time in ISO 8601", "times in ISO 8601"),
    inspect.DateType: ("a date like 2026-05-01", "dates like 2026-05-01"),
}
_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def in_words(annotation: Any) -> str:
    """Return what a value of a type is.

    Examples
    --------
    >>> in_words(list[int]), in_words(str | None)
    ('a list of whole numbers', 'a text or null')
    """
    return _words(inspect.type_info(annotation), 0)


def json_kind(name: str) -> str:
    """Return what msgspec calls a kind of JSON value.

    Examples
    --------
    >>> json_kind("str")
    'a text'
    """
    return _KINDS.get(name, name)


def _words(kind: inspect.Type, many: int) -> str:
    """Return the words for one value of a type, or with ``many`` = 1 for several."""
    match kind:
        case inspect.Metadata():
            words = _words(kind.type, many)
        case inspect.UnionType():
            words = " or ".join(dict.fromkeys(_words(each, many) for each in kind.types))
        case inspect.CollectionType():
            words = f"{('a list', 'lists')[many]} of {_words(kind.item_type, 1)}"
        case inspect.LiteralType():
            words = f"one of {_listed(kind.values)}"
        case inspect.EnumType():
            words = f"one of {_listed(member.value for member in kind.cls)}"
        case _:
            words = _ONE.get(type(kind), ("an object", "objects"))[many]
    return words


def _listed(values: Any) -> str:
    return ", ".join(msgspec.json.encode(value).decode() for value in values)
