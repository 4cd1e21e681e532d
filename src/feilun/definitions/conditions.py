"""Conditions: which events an aggregation counts, written as comparisons of fields.

``Click.category == "shoes"``, ``(Click.price > 10) & Click.category.is_in(["a", "b"])``, ``~(…)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from feilun.definitions.sites import calling_site
from feilun.errors import DefinitionError, Problem

T_co = TypeVar("T_co", covariant=True)
Comparison = Literal["==", "!=", "<", "<=", ">", ">=", "in"]


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """Holds for some events. Made by comparing a field; joined with ``&``, ``|`` and ``~``.

    A comparison of an absent field is false, also ``!=``.
    """

    op: Comparison | Literal["and", "or", "not"]
    field: Comparable[Any] | None = None
    value: Any = None
    parts: tuple[Condition, ...] = ()

    def __and__(self, other: Condition) -> Condition:
        """Hold where both do."""
        return self._join("and", other)

    def __or__(self, other: Condition) -> Condition:
        """Hold where either does."""
        return self._join("or", other)

    def __invert__(self) -> Condition:
        """Hold where this does not."""
        return Condition("not", parts=(self,))

    def _join(self, op: Literal["and", "or"], other: Condition) -> Condition:
        if not isinstance(other, Condition):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        return Condition(op, parts=(self, other))

    if not TYPE_CHECKING:  # to a type checker, what follows would be unreachable

        def __bool__(self) -> NoReturn:
            raise _misused(
                repr(self),
                "a condition is neither true nor false until there is an event.",
                "Join conditions with &, | and ~, not with and, or, not, in or a < b < c.",
            )

    def __repr__(self) -> str:
        if self.op == "not":
            return f"~{self.parts[0]!r}"
        if self.parts:
            return f"({f' {_SIGNS[self.op]} '.join(map(repr, self.parts))})"
        if self.op == "in":
            return f"{self.field!r}.is_in({self.value!r})"
        return f"({self.field!r} {self.op} {self.value!r})"


_SIGNS = {"and": "&", "or": "|"}


class Comparable(Generic[T_co]):
    """What can be compared to a value of its type, giving a condition."""

    # A comparison takes T, which is an input, though T is covariant: it is Field[int] that is
    # accepted where Field[int | None] is, and comparing to None is refused when it is compiled.
    def __eq__(self, other: T_co) -> Condition:  # type: ignore[override, misc]  # pyright: ignore[reportIncompatibleMethodOverride, reportGeneralTypeIssues]
        """Hold where the field is ``other``."""
        return _compare("==", self, other)

    def __ne__(self, other: T_co) -> Condition:  # type: ignore[override, misc]  # pyright: ignore[reportIncompatibleMethodOverride, reportGeneralTypeIssues]
        """Hold where the field is there and is not ``other``."""
        return _compare("!=", self, other)

    def __lt__(self, other: T_co) -> Condition:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """Hold where the field is less; text is ordered by its code points."""
        return _compare("<", self, other)

    def __le__(self, other: T_co) -> Condition:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """Hold where the field is not greater."""
        return _compare("<=", self, other)

    def __gt__(self, other: T_co) -> Condition:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """Hold where the field is greater."""
        return _compare(">", self, other)

    def __ge__(self, other: T_co) -> Condition:  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        """Hold where the field is not less."""
        return _compare(">=", self, other)

    def is_in(self, values: Iterable[T_co]) -> Condition:  # pyright: ignore[reportGeneralTypeIssues]
        """Hold where the field is one of ``values``."""
        return _compare("in", self, values)

    __hash__ = object.__hash__

    if not TYPE_CHECKING:  # a type checker refuses these already

        def __and__(self, other: object) -> NoReturn:
            raise _misused(
                f"{self!r} & …",
                "a field alone is not a condition.",
                "Compare it, each comparison in parentheses: (A.x > 1) & (A.y == 2).",
            )

        __or__ = __rand__ = __ror__ = __and__


def _compare(op: Comparison, compared: Comparable[Any], value: object) -> Condition:
    return Condition(op, field=compared, value=value)


def _misused(name: str, what: str, fix: str) -> DefinitionError:
    return DefinitionError([Problem(f"{calling_site()} {name}", what, fix)])
