"""The aggregations: each call declares a feature, and nothing is computed or refused here.

``window`` is how far back to look (see ``windows``; None: all time), ``hop`` overrides the width
of its tiles, ``where`` is a condition on the event's fields: only events for which it holds count,
and ``default`` is the value that stands in, flagged, where there is none.
Null fields are left out of every aggregation of that field.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

from feilun.definitions.conditions import Condition
from feilun.definitions.custom import Aggregation
from feilun.definitions.events import Event, Field, Vector
from feilun.definitions.features import Aggregated, Feature, FeatureDeclaration, Value
from feilun.definitions.specs import Kind

Number = TypeVar("Number", int, float)
Numbers = tuple[float, ...]
"""The value of a feature that is a vector."""


def count(
    event: type[Event],
    *,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[int]:
    """Count events; 0 where there are none."""
    return _declare("count", event, window=window, hop=hop, where=where, description=description)


def sum(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Number]:
    """Add up a number (of a ``bool``: how many are true); 0 without values."""
    return _declare("sum", field, window=window, hop=hop, where=where, description=description)


@overload
def mean(  # type: ignore[overload-overlap]  # only for Field[None]
    field: Field[float | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]: ...
@overload
def mean(
    field: Field[Vector | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Numbers]: ...
def mean(
    field: Field[Any],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Any]:
    """Average a number (of a ``bool``: the share that is true) or a vector, missing without values.

    The mean of vectors is taken place by place.
    """
    return _declare(
        "mean",
        field,
        window=window,
        hop=hop,
        default=default,
        where=where,
        description=description,
    )


def var(
    field: Field[float | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Estimate the variance of a number from these values, ``Σ(x − mean)² / (n − 1)``.

    Missing below two values.
    """
    return _declare(
        "var", field, window=window, hop=hop, default=default, where=where, description=description
    )


def std(
    field: Field[float | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Estimate the standard deviation of a number: the square root of ``var``."""
    return _declare(
        "std", field, window=window, hop=hop, default=default, where=where, description=description
    )


def quantile(
    field: Field[float | None],
    q: float,
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Find the number below which the share ``q`` of numbers lies, within 1 %.

    0.5 is the median. Missing without values.
    """
    return _declare(
        "quantile",
        field,
        quantile=q,
        window=window,
        hop=hop,
        default=default,
        where=where,
        description=description,
    )


def distinct(
    field: Field[bool | int | float | str | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[int]:
    """Count different values, exactly up to some 500 a tile, beyond it within a few percent.

    0 without any.
    """
    return _declare("distinct", field, window=window, hop=hop, where=where, description=description)


def min(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Number | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Number]:
    """Find the smallest number; missing without values."""
    return _declare(
        "min", field, window=window, hop=hop, default=default, where=where, description=description
    )


def max(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Number | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Number]:
    """Find the largest number; missing without values."""
    return _declare(
        "max", field, window=window, hop=hop, default=default, where=where, description=description
    )


def first(
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Value | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Value]:
    """Keep the earliest value; missing without values."""
    return _declare(
        "first",
        field,
        window=window,
        hop=hop,
        default=default,
        where=where,
        description=description,
    )


@overload
def last(  # type: ignore[overload-overlap]  # only for Field[None]
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    ttl: str | None = None,
    default: Value | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Value]: ...
@overload
def last(
    field: Field[Vector | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    ttl: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Numbers]: ...
@overload
def last(
    field: Field[Value | None],
    *,
    n: int,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[list[Value]]: ...
def last(
    field: Field[Any],
    *,
    n: int | None = None,
    window: str | None = None,
    hop: str | None = None,
    ttl: str | None = None,
    default: Any = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Any]:
    """Keep the latest value, also a vector, or a list of the latest ``n``, newest first.

    ``ttl`` is for a single value without a window: it is missing once it is that old.
    """
    return _declare(
        "last",
        field,
        n=n,
        window=window,
        hop=hop,
        ttl=ttl,
        default=default,
        where=where,
        description=description,
    )


@overload
def top(
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Value | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Value]: ...
@overload
def top(
    field: Field[Value | None],
    *,
    n: int,
    window: str | None = None,
    hop: str | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[list[Value]]: ...
def top(
    field: Field[Any],
    *,
    n: int | None = None,
    window: str | None = None,
    hop: str | None = None,
    default: Any = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[Any]:
    """Find the most frequent value, or a list of the ``n`` most frequent, most frequent first."""
    return _declare(
        "top",
        field,
        n=n,
        window=window,
        hop=hop,
        default=default,
        where=where,
        description=description,
    )


def since_last(
    event: type[Event],
    *,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Measure the seconds since the latest event; missing where there was none."""
    return _declare("since_last", event, default=default, where=where, description=description)


def decayed(
    source: type[Event] | Field[float | None],
    *,
    half_life: str,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Count events, or add up a number, with half the weight after every ``half_life``.

    0 where there are none.
    """
    return _declare("decayed", source, half_life=half_life, where=where, description=description)


def custom(
    aggregation: type[Aggregation],
    source: type[Event] | Field[float | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    where: Condition | None = None,
    description: str = "",
) -> Feature[float]:
    """Aggregate events, or a number of theirs, as a class of the project's own says."""
    return _declare(
        "custom",
        source,
        aggregation=aggregation,
        window=window,
        hop=hop,
        default=default,
        where=where,
        description=description,
    )


def _declare(kind: Kind, source: type[Event] | Field[Any], **settings: Any) -> Feature[Any]:
    return Aggregated(FeatureDeclaration(kind, source, **settings))
