"""Names the code of a function, so that a version says what it was trained by."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from feilun.definitions.specs import digest


def class_digest(cls: type) -> str:
    """Return a digest that changes when one of the class's own methods or constants does.

    Methods count as functions do in :func:`code_digest`; docstrings of the class do not count.
    """
    parts: list[tuple[str, str]] = []
    for name, value in sorted(vars(cls).items()):
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType):
            parts.append((name, code_digest(function)))
        elif not name.startswith("__"):
            parts.append((name, repr(value)))
    return digest("class", *parts)


def code_digest(function: FunctionType | Callable[..., Any]) -> str:
    """Return a digest that changes when the function's own code does.

    Comments, layout and decorators do not count. Where the source cannot be had, the bytecode does,
    which differs between versions of Python. What the function calls does not count either.
    """
    if function.__code__.co_filename.startswith("<"):
        # Made at run time. Python 3.13 takes the text of ``python -c`` for the source of it.
        return _bytecode_digest(function.__code__)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # a lambda amid an expression
        return _bytecode_digest(function.__code__)
    definition = tree.body[0]
    if isinstance(definition, ast.FunctionDef):
        definition.decorator_list.clear()
    return digest("source", ast.unparse(tree))


def _bytecode_digest(code: CodeType) -> str:
    hasher = hashlib.blake2b(code.co_code, digest_size=8)
    hasher.update(repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            hasher.update(_bytecode_digest(constant).encode())
        else:
            hasher.update(repr(constant).encode())
    return hasher.hexdigest()
