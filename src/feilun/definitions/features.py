"""Features, and arithmetic over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from feilun.definitions.events import Event, Field
from feilun.definitions.sites import Site, snake_case
from feilun.definitions.specs import Kind
from feilun.errors import DefinitionError, Problem

T_co = TypeVar("T_co", covariant=True)
Operator = Literal["+", "-", "*", "/"]


@dataclass(frozen=True, slots=True)
class FeatureDeclaration:
    """What an aggregation was called with, unread: the compiler judges it."""

    kind: Kind
    source: type[Event] | Field[Any]
    site: Site
    window: str | None = None
    hop: str | None = None
    n: int | None = None
    default: Any = None
    ttl: str | None = None
    half_life: str | None = None
    description: str = ""


class Feature(Generic[T_co]):
    """A feature whose value is a ``T``: what an aggregation returns, named by its place in a view.

    It is a value to hand on: to a model, as candidates, or to ``scored[…]``. Numbers can be added,
    subtracted, multiplied and divided in a model's ``features=``.
    """

    view: type[Any] | None = None
    name: str = ""

    def __init__(self, declaration: FeatureDeclaration) -> None:
        self.declaration = declaration

    def __set_name__(self, owner: type[Any], name: str) -> None:
        if self.view is None:
            self.view, self.name = owner, name

    @property
    def address(self) -> str:
        """``view:feature``, its one name everywhere.

        Raises
        ------
        DefinitionError
            If the feature is not an attribute of a view.
        """
        if self.view is None:
            raise DefinitionError([unplaced(self)])
        return f"{snake_case(self.view.__name__)}:{self.name}"

    def __add__(self: Feature[float], other: Operand) -> Expression:
        return Expression("+", self, other)

    def __radd__(self: Feature[float], other: float) -> Expression:
        return Expression("+", other, self)

    def __sub__(self: Feature[float], other: Operand) -> Expression:
        return Expression("-", self, other)

    def __rsub__(self: Feature[float], other: float) -> Expression:
        return Expression("-", other, self)

    def __mul__(self: Feature[float], other: Operand) -> Expression:
        return Expression("*", self, other)

    def __rmul__(self: Feature[float], other: float) -> Expression:
        return Expression("*", other, self)

    def __truediv__(self: Feature[float], other: Operand) -> Expression:
        return Expression("/", self, other)

    def __rtruediv__(self: Feature[float], other: float) -> Expression:
        return Expression("/", other, self)

    def __repr__(self) -> str:
        if self.view is None:
            return f"fl.{self.declaration.kind}({self.declaration.source!r})"
        return f"{self.view.__name__}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """Arithmetic over features, a column of a model: ``UserProfile.orders - UserItem.last_order``.

    It is computed for each row of the model. A missing operand, and a division by zero, make it
    missing.
    """

    op: Operator
    left: Operand
    right: Operand

    def __add__(self, other: Operand) -> Expression:
        return Expression("+", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return Expression("+", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return Expression("-", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return Expression("-", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return Expression("*", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return Expression("*", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return Expression("/", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return Expression("/", other, self)

    def __repr__(self) -> str:
        return f"({self.left!r} {self.op} {self.right!r})"


Operand = Feature[float] | Expression | float
"""What arithmetic takes; an ``int`` is a ``float`` to type checkers."""


def unplaced(feature: Feature[Any]) -> Problem:
    """Return what is wrong with a feature outside a view."""
    return Problem(
        f"{feature.declaration.site} {feature!r}",
        "this feature belongs to no view, so it has no address.",
        "Make it an attribute of a class that extends fl.FeatureView.",
    )
