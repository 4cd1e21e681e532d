"""Hypothesis strategies for definitions and events, full of edges.

Times lie at and beside the ends of tiles and windows, about midnights and changes of clocks, and
repeat; ties collide; values include both zeros, the largest numbers, and text of several scripts;
any column may lack values. Few choices make an example, so that many can be tried.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st

from feilun.aggregation.frames import Array, Bool, Column, EventFrame, Int64
from feilun.aggregation.segments import reduce_segments
from feilun.clock import DAY, HOUR, MINUTE, SECOND
from feilun.definitions.custom import Aggregation
from feilun.definitions.kinds import result_type
from feilun.definitions.specs import (
    ConditionSpec,
    CustomSpec,
    DType,
    EntitySpec,
    FeatureSpec,
    FoldSpec,
    Kind,
)

KINDS: tuple[Kind, ...] = (
    "count", "sum", "mean", "var", "std", "min", "max", "first", "last", "top", "distinct",
    "quantile", "since_last", "decayed", "custom",
)  # fmt: skip
DTYPES: dict[Kind, tuple[DType, ...]] = {
    "count": ("int", "str"),
    "sum": ("int", "float", "bool"),
    "mean": ("int", "float", "bool", "vector"),
    "var": ("int", "float", "bool"),
    "std": ("int", "float", "bool"),
    "min": ("int", "float", "bool"),
    "max": ("int", "float", "bool"),
    "first": ("int", "float", "bool", "str"),
    "last": ("int", "float", "bool", "str", "vector"),
    "top": ("int", "bool", "str"),
    "distinct": ("int", "float", "bool", "str"),
    "quantile": ("int", "float", "bool"),
    "since_last": ("int",),
    "decayed": ("int", "float"),
    "custom": ("int", "float"),
}
"""The types of field that each kind takes."""

_ARRAYS = {
    "int": np.int64, "float": np.float64, "bool": np.bool_, "str": object, "vector": np.float64,
}  # fmt: skip
_DIM = 3

_ANCHORS = {
    "UTC": datetime(2026, 1, 1),
    "Asia/Shanghai": datetime(2026, 6, 1),
    "Asia/Kolkata": datetime(2026, 6, 1),
    "Europe/Berlin": datetime(2026, 3, 29),  # an hour is skipped
    "America/New_York": datetime(2026, 11, 1),  # an hour is repeated
    "America/Sao_Paulo": datetime(2018, 11, 4),  # midnight is skipped
    "America/Havana": datetime(2025, 11, 2),  # midnight is repeated
    "Pacific/Apia": datetime(2011, 12, 30),  # a day is skipped
}
"""A day about which each zone's times cluster."""

_INTS = [0, 1, 2, 3, -1, -2, 2**32, 2**32 - 1, 2**62, 2**63 - 1, -(2**63)]
_FLOATS = [0.0, -0.0, 0.1, 0.2, 1.0, -2.5, 1e-9, 1e16, -1e16, sys.float_info.max, 5e-324]
_TEXTS = ["", "a", "b", "aa", "a\0", "é", "北京", "𝄞"]
_VALUES: dict[DType, st.SearchStrategy[Any]] = {
    "int": st.sampled_from(_INTS),
    "float": st.sampled_from(_FLOATS),
    "bool": st.booleans(),
    "str": st.sampled_from(_TEXTS),
    "vector": st.tuples(*[st.sampled_from(_FLOATS)] * _DIM),
}
_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from([-1, 2**63 - 1]),
    "city": st.sampled_from(["", "北京"]),
}


class Extent(Aggregation):
    """A custom aggregation: the distance between the farthest values, in halves."""

    columns: ClassVar[Mapping[str, str]] = {"low": "<f8", "high": "<f8"}
    dtype = "float"

    @staticmethod
    def lift(rows: dict[str, Array], time: Int64, values: Array | None) -> None:
        """One value is both ends; without a field it is the time. Zero loses its sign."""
        rows["low"][:] = rows["high"][:] = (time if values is None else values) + 0.0

    @staticmethod
    def reduce(columns: Mapping[str, Array], starts: Int64) -> dict[str, Array]:
        """Keep the ends."""
        return {
            "low": np.minimum.reduceat(columns["low"], starts),
            "high": np.maximum.reduceat(columns["high"], starts),
        }

    @staticmethod
    def finish(
        columns: Mapping[str, Array], offsets: Int64, _as_of: int | Int64
    ) -> tuple[Array, Bool]:
        """Return half the distance, which overflows nothing."""
        low = reduce_segments(np.minimum, columns["low"], offsets, 0.0)
        high = reduce_segments(np.maximum, columns["high"], offsets, 0.0)
        return high / 2 - low / 2, offsets[1:] > offsets[:-1]


def conditions() -> st.SearchStrategy[ConditionSpec]:
    """Make conditions on the optional fields ``color`` (str) and ``size`` (int)."""
    comparisons = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    texts, numbers = st.sampled_from(["", "a\0", "é"]), st.sampled_from([-1, 0, 2**62])
    plain = st.one_of(
        st.builds(ConditionSpec, comparisons, st.just("color"), texts),
        st.builds(ConditionSpec, comparisons, st.just("size"), numbers),
        st.builds(ConditionSpec, st.just("in"), st.just("color"), st.tuples(texts, texts)),
        st.builds(ConditionSpec, st.just("in"), st.just("size"), st.tuples(numbers)),
    )
    return st.recursive(
        plain,
        lambda part: st.one_of(
            st.builds(ConditionSpec, st.just("not"), parts=st.tuples(part)),
            st.builds(ConditionSpec, st.sampled_from(["and", "or"]), parts=st.tuples(part, part)),
        ),
        max_leaves=3,
    )


def entities() -> st.SearchStrategy[tuple[EntitySpec, ...]]:
    """Make no entity, one of either type, or two."""
    user, city = EntitySpec("user", "int"), EntitySpec("city", "str")
    return st.sampled_from([(), (user,), (city,), (user, city), (city, user)])


@st.composite
def features(draw: st.DrawFn, kind: Kind) -> FeatureSpec:
    """Make features of ``kind``, with any window, hop, time zone and keys that go with it."""
    dtype = draw(st.sampled_from(DTYPES[kind]))
    optional = kind in ("count", "since_last", "decayed", "custom")
    field = None if optional and draw(st.booleans()) else "value"
    n = draw(st.integers(1, 4)) if kind == "last" else 1
    span = draw(st.sampled_from(["all", "sliding", "calendar"]))
    window = draw(_windows()) if span == "sliding" else None
    hop = 0
    if span == "sliding":
        hops = [MINUTE, 5 * MINUTE, 7 * SECOND, HOUR, 5 * HOUR, DAY, 2 * DAY, 7 * DAY]
        hop = draw(st.sampled_from(hops))
    if span == "calendar":
        hop = DAY
    if kind in ("last", "since_last") and span != "calendar" and draw(st.booleans()):
        hop = 0
    fold = FoldSpec(
        kind=kind,
        event="click",
        field=field,
        dtype=dtype,
        keys=draw(entities()),
        hop=hop,
        timezone=draw(st.sampled_from(sorted(_ANCHORS))),
        n=n,
        half_life=draw(st.sampled_from([HOUR, DAY])) if kind == "decayed" else 0,
        where=draw(conditions()) if draw(st.integers(0, 3)) == 0 else None,
        dim=_DIM if dtype == "vector" else 0,
        custom=CustomSpec("Extent", "", Extent) if kind == "custom" else None,
    )
    is_list = kind in ("last", "top") and draw(st.booleans())
    return FeatureSpec(
        view="view",
        name="feature",
        fold=fold,
        window=window,
        calendar=draw(st.sampled_from([1, 2, 7])) if span == "calendar" else 0,
        dtype=Extent.dtype if kind == "custom" else result_type(kind, dtype),
        is_list=is_list,
        n=draw(st.integers(1, 4)) if is_list else 1,
        default=None,
        ttl=draw(st.none() | _windows()) if kind in ("last", "since_last") else None,
        quantile=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])),
    )


def _windows() -> st.SearchStrategy[int]:
    return st.sampled_from([1, 30 * MINUTE, HOUR, 12 * HOUR, DAY, 2 * DAY, 10 * DAY])


def moments(feature: FeatureSpec) -> st.SearchStrategy[int]:
    """Draw times in µs UTC, all at or beside an edge of the feature's tiles or window."""
    fold = feature.fold
    zone = ZoneInfo(fold.timezone)
    anchor = int(_ANCHORS[fold.timezone].replace(tzinfo=zone).timestamp()) * SECOND
    steps = (MINUTE, HOUR, DAY, fold.hop, feature.window or 0, feature.ttl or 0)
    edges = {anchor + number * step for step in steps for number in range(-4, 5)}
    return st.sampled_from(sorted(edge + beside for edge in edges for beside in (-1, 0, 1)))


def read_moments(feature: FeatureSpec, events: EventFrame) -> st.SearchStrategy[int]:
    """Draw times to read at: about those at which some event comes into the window or leaves."""
    if not len(events):
        return moments(feature)
    span, hop = _span(feature), feature.fold.hop
    later = [1, span // 2, span, span + 1, span + hop, span + hop + 1, 0]
    times = sorted({time + after for time in events.time.tolist() for after in later})
    return st.sampled_from(times)


def _span(feature: FeatureSpec) -> int:
    spans = (feature.window, feature.ttl, feature.calendar * DAY or None)
    return min((span for span in spans if span is not None), default=DAY)


@st.composite
def event_frames(draw: st.DrawFn, feature: FeatureSpec, max_size: int = 16) -> EventFrame:
    """Make events that the feature's fold may meet, in any order of time and of offset."""
    size = draw(st.sampled_from([0, 1, max_size // 2, max_size, max_size]))

    def many(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=size, max_size=size))

    def column(values: st.SearchStrategy[Any], dtype: DType) -> Column:
        array: Array = np.array(many(values), _ARRAYS[dtype])
        if dtype == "vector":
            array = array.reshape(size, _DIM)
        present = np.ones(size, np.bool_)
        if size:
            present[draw(st.lists(st.integers(0, size - 1), max_size=2))] = False
        return Column(array, present)

    columns = {key.name: column(_KEYS[key.name], key.dtype) for key in feature.fold.keys}
    if feature.fold.field is not None:
        columns[feature.fold.field] = column(_VALUES[feature.fold.dtype], feature.fold.dtype)
    for name in feature.fold.where.fields if feature.fold.where else ():
        of_type: DType = "str" if name == "color" else "int"
        columns[name] = column(_VALUES[of_type], of_type)
    span, base = _span(feature), draw(moments(feature))
    near = [0, 1, -1, span // 3, -span // 3, span, -span, feature.fold.hop, -2 * span]
    return EventFrame(
        time=np.array(many(st.sampled_from([base + distance for distance in near])), np.int64),
        tie=np.array(many(st.sampled_from([0, 1, 2**64 - 1])), np.uint64),
        known=np.array(many(st.integers(0, 2 * max_size)), np.int64),
        columns=columns,
    )
