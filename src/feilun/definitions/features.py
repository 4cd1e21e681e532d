"""Features: what aggregations, arithmetic and the request itself give for each row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from feilun.definitions.conditions import Condition
from feilun.definitions.custom import Aggregation
from feilun.definitions.events import Event, Field
from feilun.definitions.sites import calling_site, snake_case
from feilun.definitions.specs import Kind, Operator
from feilun.errors import DefinitionError, Problem

T_co = TypeVar("T_co", covariant=True)
Value = TypeVar("Value", bool, int, float, str)


class Feature(ABC, Generic[T_co]):
    """A feature whose value is a ``T``, named by its place in a view.

    It is a value to hand on: to a model, as candidates, or to ``scored[…]``. Numbers can be added,
    subtracted, multiplied and divided, in a view or in a model's ``features=``.
    """

    view: type[Any] | None = None
    name: str = ""

    def __init__(self) -> None:
        self.site = calling_site()

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
        return self.unnamed() if self.view is None else f"{self.view.__name__}.{self.name}"

    @abstractmethod
    def unnamed(self) -> str:
        """Return how it reads outside a view."""


Operand = Feature[float] | float
"""What arithmetic takes; an ``int`` is a ``float`` to type checkers."""
Side = Feature[Any] | float


@dataclass(frozen=True, slots=True, eq=False)
class FeatureDeclaration:
    """What an aggregation was called with, unread: the compiler judges it."""

    kind: Kind
    source: type[Event] | Field[Any]
    where: Condition | None = None
    window: str | None = None
    hop: str | None = None
    n: int | None = None
    default: Any = None
    ttl: str | None = None
    half_life: str | None = None
    quantile: float | None = None
    aggregation: type[Aggregation] | None = None
    description: str = ""


class Aggregated(Feature[T_co]):
    """A feature that aggregates events: what ``fl.count`` and its like return."""

    def __init__(self, declaration: FeatureDeclaration) -> None:
        super().__init__()
        self.declaration = declaration

    def unnamed(self) -> str:
        """Return the call that made it."""
        return f"fl.{self.declaration.kind}({self.declaration.source!r})"


class Expression(Feature[float]):
    """Arithmetic over features: ``UserProfile.orders - UserItem.last_order``.

    As an attribute of a view it is a feature of that view. A missing operand, a division by zero
    and a result that is no finite number make it missing.
    """

    def __init__(self, op: Operator, left: Side, right: Side) -> None:
        super().__init__()
        self.op: Operator = op
        self.left = left
        self.right = right

    def unnamed(self) -> str:
        """Return the formula."""
        if self.op.isalpha():
            return f"fl.{self.op}({self.left!r}, {self.right!r})"
        return f"({self.left!r} {self.op} {self.right!r})"


def cosine(a: Feature[tuple[float, ...]], b: Feature[tuple[float, ...]]) -> Expression:
    """Compare the directions of two vectors: 1 where they are the same, -1 where opposite.

    Missing where one of them is, or has no direction (all zeros).
    """
    return Expression("cosine", a, b)


def same(a: Feature[Value], b: Feature[Value]) -> Expression:
    """Say whether two texts or two numbers are equal: 1 or 0, and missing where one of them is."""
    return Expression("same", a, b)


class RequestFeature(Feature[T_co]):
    """A feature that the request itself holds. Made by ``fl.request``."""

    def __init__(self, parameter: str, dtype: Any, *, is_moment: bool = False) -> None:
        super().__init__()
        self.parameter = parameter
        self.dtype = dtype
        self.is_moment = is_moment

    @property
    def address(self) -> str:
        """``request:name``."""
        return f"request:{self.parameter}"

    def unnamed(self) -> str:
        """Return how it is written in a definition."""
        if self.is_moment:
            return f"fl.request.{self.parameter}"
        return f"fl.request.param({self.parameter!r}, {getattr(self.dtype, '__name__', '?')})"


class Request:
    """The request that is being answered, as features of a model: ``fl.request``."""

    @property
    def hour(self) -> Feature[int]:
        """The hour of the request in the project's time zone, 0 to 23."""
        return RequestFeature("hour", int, is_moment=True)

    @property
    def weekday(self) -> Feature[int]:
        """The day of the week of the request in the project's time zone: Monday is 0."""
        return RequestFeature("weekday", int, is_moment=True)

    def param(self, name: str, dtype: type[Value]) -> Feature[Value]:
        """Take a parameter of the capability's request, which has this name and type.

        What was asked is kept with each prediction. It is missing in examples that are made from
        imported history, and in predictions from before the model used it.
        """
        return RequestFeature(name, dtype)


request = Request()


def unplaced(feature: Feature[Any]) -> Problem:
    """Return what is wrong with a feature outside a view."""
    return Problem(
        f"{feature.site} {feature!r}",
        "this feature belongs to no view, so it has no address.",
        "Make it an attribute of a class that extends fl.FeatureView.",
    )
