"""What is asked of a column of rows, a list: which values it has, and how far they reach."""

from __future__ import annotations

from typing import TypeVar

from feilun.records.compiled import loops

T = TypeVar("T")

_LEAST, _GREATEST = -(2**63), 2**63 - 1


def distinct(values: list[T]) -> list[T]:
    """Return the different values, in the order in which each came first.

    Fast where all are one object, as they are in most columns of most batches.

    Examples
    --------
    >>> distinct(["web", "web"]), distinct(["web", "app", "web"]), distinct([])
    (['web'], ['web', 'app'], [])
    """
    if values and values.count(values[0]) == len(values):
        return values[:1]
    return list(dict.fromkeys(values))


def extremes(numbers: list[int]) -> tuple[int, int] | None:
    """Return the least and the greatest of numbers; None if not all are int64, or there are none.

    Examples
    --------
    >>> extremes([3, 1, 2]), extremes([3, None]), extremes([])
    ((1, 3), None, None)
    """
    if loops is not None:
        found: tuple[int, int] | None = loops.extremes(numbers)
        return found
    if set(map(type, numbers)) != {int}:
        return None
    least, greatest = min(numbers), max(numbers)
    return (least, greatest) if least >= _LEAST and greatest <= _GREATEST else None
