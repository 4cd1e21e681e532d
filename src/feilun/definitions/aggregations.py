"""The aggregations: each call declares a feature, and nothing is computed or refused here.

``window`` is how far back to look (see ``windows``; None: all time), ``hop`` overrides the width
of its tiles, and ``default`` is the value that stands in, flagged, where there is none.
Null fields are left out of every aggregation of that field.
"""

from __future__ import annotations

from typing import Any, TypeVar, overload

from feilun.definitions.events import Event, Field
from feilun.definitions.features import Feature, FeatureDeclaration
from feilun.definitions.sites import calling_site
from feilun.definitions.specs import Kind

Number = TypeVar("Number", int, float)
Value = TypeVar("Value", bool, int, float, str)


def count(
    event: type[Event],
    *,
    window: str | None = None,
    hop: str | None = None,
    description: str = "",
) -> Feature[int]:
    """Count events; 0 where there are none."""
    return _declare("count", event, window=window, hop=hop, description=description)


def sum(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    description: str = "",
) -> Feature[Number]:
    """Add up a number (of a ``bool``: how many are true); 0 without values."""
    return _declare("sum", field, window=window, hop=hop, description=description)


def mean(
    field: Field[float | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: float | None = None,
    description: str = "",
) -> Feature[float]:
    """Average a number (of a ``bool``: the share that is true); missing without values."""
    return _declare("mean", field, window=window, hop=hop, default=default, description=description)


def min(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Number | None = None,
    description: str = "",
) -> Feature[Number]:
    """Find the smallest number; missing without values."""
    return _declare("min", field, window=window, hop=hop, default=default, description=description)


def max(
    field: Field[Number | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Number | None = None,
    description: str = "",
) -> Feature[Number]:
    """Find the largest number; missing without values."""
    return _declare("max", field, window=window, hop=hop, default=default, description=description)


def first(
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Value | None = None,
    description: str = "",
) -> Feature[Value]:
    """Keep the earliest value; missing without values."""
    return _declare(
        "first", field, window=window, hop=hop, default=default, description=description
    )


@overload
def last(
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    ttl: str | None = None,
    default: Value | None = None,
    description: str = "",
) -> Feature[Value]: ...
@overload
def last(
    field: Field[Value | None],
    *,
    n: int,
    window: str | None = None,
    hop: str | None = None,
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
    description: str = "",
) -> Feature[Any]:
    """Keep the latest value, or a list of the latest ``n``, newest first.

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
        description=description,
    )


@overload
def top(
    field: Field[Value | None],
    *,
    window: str | None = None,
    hop: str | None = None,
    default: Value | None = None,
    description: str = "",
) -> Feature[Value]: ...
@overload
def top(
    field: Field[Value | None],
    *,
    n: int,
    window: str | None = None,
    hop: str | None = None,
    description: str = "",
) -> Feature[list[Value]]: ...
def top(
    field: Field[Any],
    *,
    n: int | None = None,
    window: str | None = None,
    hop: str | None = None,
    default: Any = None,
    description: str = "",
) -> Feature[Any]:
    """Find the most frequent value, or a list of the ``n`` most frequent, most frequent first."""
    return _declare(
        "top", field, n=n, window=window, hop=hop, default=default, description=description
    )


def since_last(
    event: type[Event], *, default: float | None = None, description: str = ""
) -> Feature[float]:
    """Measure the seconds since the latest event; missing where there was none."""
    return _declare("since_last", event, default=default, description=description)


def decayed(event: type[Event], *, half_life: str, description: str = "") -> Feature[float]:
    """Count events, each weighing half as much after every ``half_life``; 0 without any."""
    return _declare("decayed", event, half_life=half_life, description=description)


def _declare(kind: Kind, source: type[Event] | Field[Any], **settings: Any) -> Feature[Any]:
    return Feature(FeatureDeclaration(kind, source, calling_site(), **settings))
