"""Events to tiles, and tiles to tiles: ``fold``, ``merge``, ``zero`` and ``expire``.

All pure; every argument stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feilun.aggregation.frames import Array, Bool, EventFrame, Int64
from feilun.aggregation.hops import floor_hop, tile_end
from feilun.aggregation.keys import group_keys
from feilun.aggregation.statistics import Events, Statistic, statistic_of
from feilun.aggregation.tiles import Tiles
from feilun.definitions.specs import FoldSpec


def zero(spec: FoldSpec) -> Tiles:
    """Return the tiles of no events: merged with any others they change nothing."""
    return Tiles([], np.zeros(1, np.int64), np.empty(0, statistic_of(spec).row_type))


def fold(spec: FoldSpec, events: EventFrame) -> Tiles:
    """Fold events, in any order, into tiles.

    An event without one of the keys, or without the field where there is one, is left out.
    ``fold(a + b) = merge(fold(a), fold(b))`` for any split: to the bit but for floats that are
    added, which agree within ``1e-9 · Σ|x|``.

    Raises
    ------
    InputError
        If a str key is too long, or a time is beyond what a calendar holds.
    """
    statistic = statistic_of(spec)
    events = usable(spec, events)
    keys, codes = group_keys(spec.keys, events)
    if statistic.keeps_events:
        time = events.time
    elif spec.hop == 0:
        time = np.zeros(len(events), np.int64)
    else:
        time = floor_hop(events.time, spec.hop, spec.timezone)
    return _combine(statistic, keys, codes, lift(spec, events, time))


def merge(spec: FoldSpec, a: Tiles, b: Tiles) -> Tiles:
    """Merge the tiles of two disjoint sets of events; associative and commutative.

    A key of either is a key of the result, also if it has no rows. Keys must be distinct within
    each argument.
    """
    keys = sorted({*a.keys, *b.keys})
    places = {key: place for place, key in enumerate(keys)}
    split = len(a.rows)
    codes = np.empty(split + len(b.rows), np.int64)
    rows = np.empty(len(codes), a.rows.dtype)
    for tiles, part in ((a, slice(split)), (b, slice(split, None))):
        codes[part] = np.array([places[key] for key in tiles.keys], np.int64)[tiles.codes]
        rows[part] = tiles.rows
    return _combine(statistic_of(spec), keys, codes, rows)


def expire(spec: FoldSpec, tiles: Tiles, before: int) -> Tiles:
    """Drop tiles that end at or before ``before`` (µs UTC), which no later read may need.

    Keys stay, also with nothing left. A tile of all time (hop 0) never ends; where single events
    are kept one goes with its tile, or with hop 0 when it is older than ``before``.
    """
    keeps_events = statistic_of(spec).keeps_events
    if not len(tiles.rows) or (spec.hop == 0 and not keeps_events):
        return tiles
    time = tiles.rows["time"]
    if spec.hop == 0:
        keep = time >= before
    else:
        starts = floor_hop(time, spec.hop, spec.timezone) if keeps_events else time
        keep = tile_end(starts, spec.hop, spec.timezone) > before
    if keep.all():
        return tiles
    return Tiles(tiles.keys, kept_offsets(keep, tiles.offsets), tiles.rows[keep])


def usable(spec: FoldSpec, events: EventFrame) -> EventFrame:
    """Return the events that have every key of the fold, and its field, with those columns."""
    names = [entity.name for entity in spec.keys]
    if spec.field is not None:
        names.append(spec.field)
    columns = {name: events.columns[name] for name in names}
    needed = EventFrame(events.time, events.tie, events.known, columns)
    gaps = [column.present for column in columns.values() if not column.present.all()]
    return needed.take(np.logical_and.reduce(gaps)) if gaps else needed


def lift(spec: FoldSpec, events: EventFrame, time: Int64) -> Array:
    """Return one row an event, standing at ``time``."""
    statistic = statistic_of(spec)
    rows = np.empty(len(events), statistic.row_type)
    rows["time"] = time
    values = None if spec.field is None else events.columns[spec.field].values
    statistic.lift(rows, Events(events.time, events.tie, values))
    return rows


def sorting(statistic: Statistic, codes: Int64, rows: Array) -> Int64:
    """Return the order of rows by key, time and whatever the statistic breaks ties by."""
    return np.lexsort((*statistic.tie_breaks(rows), rows["time"], codes))


def kept_offsets(keep: Bool, offsets: Int64) -> Int64:
    """Return the offsets of segments of which only the rows in ``keep`` stay."""
    before = np.zeros(len(keep) + 1, np.int64)
    np.cumsum(keep, out=before[1:])
    return before[offsets]


def _combine(statistic: Statistic, keys: Sequence[bytes], codes: Int64, rows: Array) -> Tiles:
    order = sorting(statistic, codes, rows)
    codes, rows = statistic.compact(codes[order], rows[order])
    return Tiles(keys, np.searchsorted(codes, np.arange(len(keys) + 1)), rows)
