"""What a script may say: expressions, and statements that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Name(NamedTuple):
    """A local variable."""

    name: str


class Literal(NamedTuple):
    """A plain value."""

    value: float | str | None


class Constant(NamedTuple):
    """One of the file's constants, by its place."""

    place: int


class FunctionName(NamedTuple):
    """A function of the file, as a value."""

    name: str


class Items(NamedTuple):
    """A list, or a tuple."""

    items: tuple[Expression, ...]
    is_list: bool


class Attribute(NamedTuple):
    """An attribute of a module."""

    of: Expression
    name: str


class Call(NamedTuple):
    """A call of an operator or a conversion, by its name without ``torch.``."""

    operator: str
    arguments: tuple[Expression, ...]
    keywords: Mapping[str, Expression]


class Method(NamedTuple):
    """A call of a module's method."""

    of: Expression
    name: str
    arguments: tuple[Expression, ...]


class Apply(NamedTuple):
    """A call of a function that is a value."""

    function: Expression
    arguments: tuple[Expression, ...]


Expression: TypeAlias = (
    "Name | Literal | Constant | FunctionName | Items | Attribute | Call | Method | Apply"
)


class Assign(NamedTuple):
    """Names get a value, or its items if they are to be unpacked."""

    names: tuple[str, ...]
    unpack: bool
    value: Expression


class Do(NamedTuple):
    """An expression whose value nobody wants."""

    value: Expression


class Return(NamedTuple):
    """The end of a function."""

    value: Expression


class If(NamedTuple):
    """One of two blocks."""

    test: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


class For(NamedTuple):
    """A block for each number below one."""

    name: str
    times: Expression
    body: tuple[Statement, ...]


class While(NamedTuple):
    """A block as long as a test holds."""

    test: Expression
    body: tuple[Statement, ...]


Statement: TypeAlias = "Assign | Do | Return | If | For | While"


class Function(NamedTuple):
    """A function: its parameters, the values of the last of them, and its statements."""

    parameters: tuple[str, ...]
    defaults: tuple[Expression, ...]
    body: tuple[Statement, ...]
