"""Events to tiles, and tiles to tiles: ``fold``, ``merge``, ``zero`` and ``expire``.

All pure; every argument stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feilun.aggregation.compiled import loops
from feilun.aggregation.conditions import holds
from feilun.aggregation.frames import Array, Bool, EventFrame, Int64
from feilun.aggregation.hops import floor_hop
from feilun.aggregation.keys import group_keys
from feilun.aggregation.plan import Plan
from feilun.aggregation.segments import boundaries, break_ties, order_by
from feilun.aggregation.statistics import Events
from feilun.aggregation.tiles import Tiles, as_words
from feilun.clock import DAY, SECOND


def zero(plan: Plan) -> Tiles:
    """Return the tiles of no events: merged with any others they change nothing."""
    return Tiles([], np.zeros(1, np.int64), np.empty(0, plan.row_type))


def fold(plan: Plan, events: EventFrame) -> Tiles:
    """Fold events, in any order, into tiles.

    An event without one of the keys or fields, or for which the filter does not hold, is left
    out. ``fold(a + b) = merge(fold(a), fold(b))`` for any split: to the bit but for floats that
    are added, which agree within ``1e-9 · Σ|x|``.

    Raises
    ------
    InputError
        If a str key is too long, or a time is beyond what a calendar holds.
    """
    return fold_all([plan], events)[0]


def fold_all(plans: Sequence[Plan], events: EventFrame) -> list[Tiles]:
    """Fold events by several plans of one event; plans that count the same share the grouping."""
    groups: dict[object, tuple[EventFrame, list[bytes], Int64]] = {}
    folded = []
    for plan in plans:
        optional = {fold.field for fold in plan.folds if not fold.required}
        same = (plan.keys, plan.where, *optional.intersection(_needed(plan)))
        if same not in groups:
            counted = usable(plan, events)
            groups[same] = (counted, *group_keys(plan.keys, counted))
        counted, keys, codes = groups[same]
        rows = lift(plan, counted, _tile_times(plan, counted))
        folded.append(_combine(plan, keys, codes, rows))
    return folded


def merge(plan: Plan, a: Tiles, b: Tiles) -> Tiles:
    """Merge the tiles of two disjoint sets of events; associative and commutative.

    A key of either is a key of the result, also if it has no rows. Keys must be distinct within
    each argument.
    """
    if a.keys is b.keys and loops is not None and plan.merges is not None:
        rows, offsets = loops.merge(
            as_words(a.rows), a.offsets, as_words(b.rows), b.offsets, plan.merges
        )
        return Tiles(a.keys, offsets, rows.reshape(-1).view(plan.row_type))
    if a.keys is b.keys:
        keys, codes = a.keys, np.concatenate((a.codes, b.codes))
    else:
        keys = sorted({*a.keys, *b.keys})
        codes = np.concatenate([places(keys, tiles)[tiles.codes] for tiles in (a, b)])
    return _combine(plan, keys, codes, np.concatenate((a.rows, b.rows)))


def expire(plan: Plan, tiles: Tiles, before: int) -> Tiles:
    """Drop tiles that end at or before ``before`` (µs UTC), which no later read may need.

    Keys stay, also with nothing left. A tile of all time (hop 0) never ends; where single events
    are kept one goes with its tile, or with hop 0 when it is older than ``before``.
    """
    if not len(tiles.rows) or (plan.hop == 0 and not plan.keeps_events):
        return tiles
    # A tile that ends after ``before`` begins no earlier than the one that holds it.
    keep = tiles.time >= floor_hop(before, plan.hop, plan.timezone)
    if keep.all():
        return tiles
    return Tiles(tiles.keys, kept_offsets(keep, tiles.offsets), tiles.rows[keep])


def usable(plan: Plan, events: EventFrame) -> EventFrame:
    """Return the events that count: with every key and field, and for which the filter holds."""
    names = (*(entity.name for entity in plan.keys), *_needed(plan))
    masks = [
        column.present
        for column in (events.columns[name] for name in names)
        if not column.present.all()
    ]
    if plan.where is not None:
        masks.append(holds(plan.where, events))
    return events.take(np.logical_and.reduce(masks)) if masks else events


def _needed(plan: Plan) -> tuple[str, ...]:
    """Return the field without which an event does not count.

    Where several share rows each was required when the plan was made. One that may be absent by now
    takes no events from the others; what is folded of it nobody reads.
    """
    return () if plan.of_many_fields else plan.fields


def lift(plan: Plan, events: EventFrame, time: Int64) -> Array:
    """Return one row an event, standing at ``time``."""
    rows = np.empty(len(events), plan.row_type)
    rows["time"] = time
    for place, (spec, statistic) in enumerate(zip(plan.folds, plan.statistics, strict=True)):
        values = None if spec.field is None else events.columns[spec.field].values
        statistic.lift(plan.rows_of(place, rows), Events(events.time, events.tie, values))
    return rows


def sorting(plan: Plan, codes: Int64, rows: Array) -> Int64:
    """Return the order of rows by key, time and, where order matters, what breaks ties."""
    time = rows["time"]
    unit = 1 if plan.keeps_events else plan.hop if plan.hop % DAY else SECOND
    order = order_by(codes, time // unit)
    statistic = plan.statistics[0]
    if statistic.shares_rows:
        return order
    return break_ties(order, codes, time, lambda tied: statistic.tie_breaks(rows[tied]))


def kept_offsets(keep: Bool, offsets: Int64) -> Int64:
    """Return the offsets of segments of which only the rows in ``keep`` stay."""
    before = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return before[offsets]


def places(keys: Sequence[bytes], tiles: Tiles) -> Int64:
    """Return where each key of ``tiles`` stands in ``keys``."""
    place = {key: at for at, key in enumerate(keys)}
    return np.fromiter(map(place.__getitem__, tiles.keys), np.int64, len(tiles.keys))


def _tile_times(plan: Plan, events: EventFrame) -> Int64:
    if plan.keeps_events:
        return events.time
    if plan.hop == 0:
        return np.zeros(len(events), np.int64)
    return floor_hop(events.time, plan.hop, plan.timezone)


def _combine(plan: Plan, keys: Sequence[bytes], codes: Int64, rows: Array) -> Tiles:
    order = sorting(plan, codes, rows)
    codes, rows = codes[order], rows[order]
    if len(plan.folds) == 1:
        codes, rows = plan.statistics[0].compact(codes, rows)
    else:
        starts = boundaries(codes, rows["time"])
        codes, rows = codes[starts], _reduce(plan, rows, starts)
    return Tiles(keys, np.searchsorted(codes, np.arange(len(keys) + 1)), rows)


def _reduce(plan: Plan, rows: Array, starts: Int64) -> Array:
    """Merge each run of rows that begins at ``starts`` into one row."""
    if len(starts) == len(rows):
        return rows
    merged: Array = rows[starts]
    for place, statistic in enumerate(plan.statistics):
        statistic.reduce(plan.rows_of(place, rows), starts, plan.rows_of(place, merged))
    return merged
