"""Values at moments of the past: ``read_past``, for training.

Tiles answer reads of now only: they hold what came later too, and do not know when each event
became known. So a past value is computed from events, in three steps for all queries together:

1. Events are sorted by key and time, once for all features that count the same ones. The events
   of a query's window are then one range of them, found by binary search. Many events are sorted
   and read in shares, each with keys of its own, on every core (``shares``).
2. Of these only the ones below the query's ``known`` count. Up to the first event of the key that
   is not below it (by the running maximum) all are, and from the last that is on (by the running
   minimum from the end) none is. Events between, few if any, are looked at one by one.
3. Where columns merge by themselves, each range is reduced to one row (``ranges.Reducer``).
   Others are taken as they are; or where that is too much are covered by nodes of a tree of
   pairwise merged rows, at most two a level. No difference of running totals of floats is ever
   taken.

What is found is then finished by the same code as an online read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from feilun.aggregation.folding import lift, usable
from feilun.aggregation.frames import Array, Column, EventFrame, Int64
from feilun.aggregation.keys import match_keys
from feilun.aggregation.plan import Plan
from feilun.aggregation.ranges import Cover, Line, Ranges, Reducer, find_ranges
from feilun.aggregation.reading import earliest, finish
from feilun.aggregation.segments import boundaries, break_ties, order_by
from feilun.aggregation.shares import Share, cut, in_threads
from feilun.aggregation.statistics import Events, Statistic, Window
from feilun.definitions.specs import FeatureSpec

_ROWS_AT_ONCE = 1 << 21
"""Rows gathered before they are finished: bounds the memory, not the result."""


def read_past(
    features: Sequence[FeatureSpec],
    events: EventFrame,
    keys: Mapping[str, Sequence[int | str] | Array],
    as_of: Int64,
    known: Int64,
) -> list[Column]:
    """Return the value of each feature for each query: what an online read would have given.

    Query q counts the events of its key with time before ``as_of[q]`` and offset below
    ``known[q]``. Exact for every query: equal to the online read to the bit, but for floats that
    are added, which agree within ``1e-9 · Σ|x|``. Equal queries cost one.

    Parameters
    ----------
    features : sequence of FeatureSpec
        What to read, all over the same event.
    events : EventFrame
        All events of that kind, in any order.
    keys : mapping
        The value of each entity, one a query.
    as_of, known : int64 array
        Time (µs UTC) and log offset of each query, both exclusive.
    """
    groups: dict[object, list[int]] = {}
    for at, feature in enumerate(features):
        fold = feature.fold
        same = (fold.keys, fold.where, None if fold.required else fold.field)
        groups.setdefault(same, []).append(at)
    columns: dict[int, Column] = {}
    for ats in groups.values():
        alike = [features[at] for at in ats]
        columns.update(zip(ats, _read_alike(alike, events, keys, as_of, known), strict=True))
    return [columns[at] for at in range(len(features))]


def _read_alike(
    features: Sequence[FeatureSpec],
    events: EventFrame,
    keys: Mapping[str, Sequence[int | str] | Array],
    as_of: Int64,
    known: Int64,
) -> list[Column]:
    """Return the values of features that count the same events."""
    fold = features[0].fold
    events = usable(Plan((fold,)), events)
    codes, asked = match_keys(fold.keys, events, keys, len(as_of))
    names = {feature.fold.field for feature in features if feature.fold.field is not None}
    events = EventFrame(
        events.time, events.tie, events.known, {name: events.columns[name] for name in names}
    )

    def read_share(share: Share) -> tuple[list[Column], Int64]:
        mine, queries = share.events, share.queries
        history = _History(
            events.take(mine),
            codes[mine] - share.first,
            np.maximum(asked[queries] - share.first, -1),
            as_of[queries],
            known[queries],
        )
        return [history.read(feature) for feature in features], history.place

    shares = cut(codes, asked)
    found, places = zip(*in_threads(read_share, shares), strict=True)

    def spread(parts: Sequence[Column]) -> Column:
        first = parts[0].values
        values = np.empty((len(as_of), *first.shape[1:]), first.dtype)
        present = np.empty(len(as_of), np.bool_)
        for share, place, part in zip(shares, places, parts, strict=True):
            values[share.queries] = part.values[place]
            present[share.queries] = part.present[place]
        return Column(values, present)

    return in_threads(spread, list(zip(*found, strict=True)))


class _Asked(NamedTuple):
    """The distinct queries, sorted by key and time; ``codes`` are -1 for keys without events."""

    codes: Int64
    as_of: Int64
    known: Int64


class _View(NamedTuple):
    """Events in an order by key and time, and their offsets; where each query must stop.

    Behind ``end`` no event counts for a query, and before ``doubt`` all do. Offsets are looked at
    between the two only, and where that is nowhere they are in no order. ``found`` keeps the ranges
    that were looked for.
    """

    order: Int64
    known: Int64
    end: Int64
    doubt: Int64
    found: dict[object, Ranges]


class _History:
    """Events that count for some folds, sorted by key and time, and the queries about them."""

    def __init__(
        self, events: EventFrame, codes: Int64, asked: Int64, as_of: Int64, known: Int64
    ) -> None:
        by_query = order_by(asked + 1, as_of)
        asked, as_of, known = asked[by_query], as_of[by_query], known[by_query]
        distinct = boundaries(asked, as_of, known) if len(asked) else np.zeros(0, np.int64)
        self._asked = _Asked(asked[distinct], as_of[distinct], known[distinct])
        self.place = np.empty(len(asked), np.int64)
        """The place of each query among the distinct ones."""
        self.place[by_query] = np.repeat(
            np.arange(len(distinct)), np.diff(np.append(distinct, len(asked)))
        )
        order = order_by(codes, events.time)
        self._events, self._event_codes = events, codes
        self._codes, self._time = codes[order], events.time[order]
        self._line = Line(self._codes, self._time)
        self._plain = self._view(order)
        self._values: dict[str | None, Array | None] = {None: None}
        self._made: dict[tuple[Statistic, str | None], dict[str, Reducer]] = {}

    def read(self, feature: FeatureSpec) -> Column:
        """Return the feature's value for each distinct query."""
        plan = Plan((feature.fold,))
        view = self._view_for(plan)
        ranges = self._ranges(feature, view)
        ranges = Ranges(*plan.statistics[0].narrow(ranges.lo, ranges.hi), ranges.doubt, ranges.end)
        cover = Cover(plan, self._events, view.order, ranges, self._reducers)
        doubts = bool((ranges.doubt < ranges.end).any())
        columns = []
        for part in _parts(cover.costs):
            queries, rows = cover.rows(part)
            if doubts:
                doubtful, index = find_ranges(ranges.doubt[part], ranges.end[part])
                counts = view.known[index] < self._asked.known[part][doubtful]
                events = self._events.take(view.order[index[counts]])
                queries = np.concatenate((queries, doubtful[counts]))
                by_query = np.argsort(queries, kind="stable")
                queries = queries[by_query]
                rows = np.concatenate((rows, lift(plan, events, events.time)))[by_query]
            moments = self._asked.as_of[part]
            offsets = np.zeros(len(moments) + 1, np.int64)
            np.cumsum(np.bincount(queries, minlength=len(moments)), out=offsets[1:])
            columns.append(finish(Window(feature, rows, offsets, moments)))
        return _joined(columns)

    def _reducers(self, plan: Plan) -> dict[str, Reducer]:
        """Return what reduces ranges of each column of a statistic, in plain order.

        Such a statistic looks at nothing but values, so folds that differ in windows share them.
        """
        statistic, field = plan.statistics[0], plan.folds[0].field
        if (statistic, field) not in self._made:
            order = self._plain.order
            if field not in self._values:
                self._values[field] = self._events.columns[field or ""].values[order]
            rows = np.zeros(len(order), statistic.columns())
            statistic.lift(rows, Events(self._time, self._events.tie, self._values[field]))
            self._made[statistic, field] = {
                name: Reducer(ufunc, rows[name])
                for name, ufunc in (statistic.columnwise or {}).items()
            }
        return self._made[statistic, field]

    def _ranges(self, feature: FeatureSpec, view: _View) -> Ranges:
        """Return where the events of each query are; equal windows are looked for once."""
        fold = feature.fold
        span = (feature.window, feature.calendar, feature.ttl, fold.hop, fold.timezone)
        if span not in view.found:
            codes, as_of, _ = self._asked
            start = earliest(feature, as_of)
            lo = self._line.begin(codes) if start is None else self._line.first(codes, start)
            end = np.maximum(lo, view.end)
            doubt = np.clip(view.doubt, lo, end)
            view.found[span] = Ranges(lo, doubt, doubt, end)
        return view.found[span]

    def _view(self, order: Int64) -> _View:
        """Return what queries find in this order."""
        codes, as_of, wanted = self._asked
        end = self._line.first(codes, as_of)
        known = self._events.known
        if not len(wanted) or not len(known) or known.max() < wanted.min():
            return _View(order, known, end, end, {})
        known = known[order]
        marks = Line(self._codes, known)
        highest = np.maximum.accumulate(marks.packed)
        lowest = np.minimum.accumulate(marks.packed[::-1])[::-1]
        packed = marks.pack(codes, wanted)
        end = np.minimum(end, np.searchsorted(lowest, packed))
        doubt = np.minimum(end, np.searchsorted(highest, packed))
        return _View(order, known, end, doubt, {})

    def _view_for(self, plan: Plan) -> _View:
        """Return the events in the order of the statistic, which may break ties."""
        statistic = plan.statistics[0]
        if not statistic.tie_breaks(np.empty(0, plan.row_type)):
            return self._plain

        def ties(tied: Int64) -> tuple[Array, ...]:
            events = self._events.take(tied)
            return statistic.tie_breaks(lift(plan, events, events.time))

        order = break_ties(self._plain.order, self._event_codes, self._events.time, ties)
        return self._plain if order is self._plain.order else self._view(order)


def _parts(costs: Int64) -> list[slice]:
    """Cut the queries where the rows to gather for them reach the bound."""
    if costs.sum() <= _ROWS_AT_ONCE:
        return [slice(len(costs))]
    cuts = boundaries(np.cumsum(costs) // _ROWS_AT_ONCE).tolist()
    return [slice(lo, hi) for lo, hi in pairwise([*cuts, len(costs)])]


def _joined(columns: Sequence[Column]) -> Column:
    """Return columns one after the other, as one."""
    if len(columns) == 1:
        return columns[0]
    return Column(
        np.concatenate([column.values for column in columns]),
        np.concatenate([column.present for column in columns]),
    )
