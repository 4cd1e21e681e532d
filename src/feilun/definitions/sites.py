"""Where in a user's files something was written, and how classes are named elsewhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Site(NamedTuple):
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        here = Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        return f"{shown}:{self.line}"


def calling_site() -> Site:
    """Return the line outside this room that is being executed: the user's definition."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return Site(frame.f_code.co_filename, frame.f_lineno) if frame else Site("?", 0)


def function_site(function: Callable[..., Any]) -> Site:
    """Return the line on which a function begins."""
    code = getattr(function, "__code__", None)
    return Site(code.co_filename, code.co_firstlineno) if code else Site("?", 0)


def snake_case(name: str) -> str:
    """Write a class's name as the name of an event or a view.

    Examples
    --------
    >>> snake_case("OrderLine"), snake_case("HTTPError"), snake_case("Stock")
    ('order_line', 'http_error', 'stock')
    """
    return _WORD_START.sub("_", name).lower()
