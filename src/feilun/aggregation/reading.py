"""Values from tiles: ``read``, and ``read_stored`` from blobs of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from feilun.aggregation.codec import WORD, StoredTiles
from feilun.aggregation.family import Family
from feilun.aggregation.folding import kept_offsets
from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.hops import window_start
from feilun.aggregation.plan import Plan
from feilun.aggregation.statistics import Window, statistic_of
from feilun.aggregation.statistics.base import per_row
from feilun.aggregation.tiles import Tiles
from feilun.definitions.specs import FeatureSpec
from feilun.errors import DefinitionError, Problem

Fields = Mapping[str, tuple[int, Any]]
"""The word and the type of each column of a fold in the rows of its plan."""


def read(
    plan: Plan, tiles: Tiles, features: Sequence[FeatureSpec], as_of: int | Int64
) -> list[Column]:
    """Return the value of each feature for each key.

    Parameters
    ----------
    plan : Plan
        Whose tiles these are.
    tiles : Tiles
        The states.
    features : sequence of FeatureSpec
        What to read; their folds must be in the plan. Equal windows are found once.
    as_of : int or int64 array
        Now, µs UTC: later than every folded event. One for all, or one for each key.

    Returns
    -------
    list of Column
        Where a value is missing ``present`` is False, and the value is the feature's default if
        it has one, else NaN, 0, False, None or an empty list. Counts and sums of an empty window
        are 0 and present; any other statistic of it is missing.
    """
    cuts: dict[object, tuple[Array, Int64]] = {}
    columns = []
    for feature in features:
        span = span_of(feature)
        if span not in cuts:
            cuts[span] = _cut(tiles, earliest(feature, as_of))
        counted, offsets = cuts[span]
        rows = plan.rows_of(plan.place_of(feature.fold), counted)
        columns.append(finish(Window(feature, rows, offsets, as_of)))
    return columns


def read_stored(
    stored: StoredTiles, place: int, features: Sequence[FeatureSpec], as_of: int
) -> list[Column]:
    """Return the value of each feature for each key, straight from blobs.

    As `read` of the tiles of the plan at ``place``, but of rows of plain numbers only the columns
    that are needed are copied, and only in the window.
    """
    family = stored.family
    plan = family.plans[place]
    plain, others = {}, []
    for feature in features:
        fields = _plain_fields(family, place, plan.place_of(feature.fold))
        if fields is None:
            others.append(feature)
        else:
            plain[feature.address] = feature, fields
    columns = _read_plain(stored, place, plain.values(), as_of) if plain else {}
    if others:
        found = read(plan, stored.tiles(place), others, as_of)
        columns.update(zip((feature.address for feature in others), found, strict=True))
    return [columns[feature.address] for feature in features]


def _read_plain(
    stored: StoredTiles, place: int, asked: Iterable[tuple[FeatureSpec, Fields]], as_of: int
) -> dict[str, Column]:
    """Return by address the values of features of which columns of numbers are all that is read."""
    at, offsets = stored.places(place)
    times = stored.words[at]
    spans: dict[object, tuple[Int64, Int64]] = {}
    columns = {}
    for feature, fields in asked:
        span = span_of(feature)
        if span not in spans:
            start = earliest(feature, as_of)
            keep = None if start is None else times >= start
            if keep is None or keep.all():
                spans[span] = at, offsets
            else:
                spans[span] = at[keep], kept_offsets(keep, offsets)
        rows: Any = _PlainRows(stored.words, spans[span][0], fields)
        columns[feature.address] = finish(Window(feature, rows, spans[span][1], as_of))
    return columns


class _PlainRows:
    """Rows of numbers where they lie; a column is copied when it is asked for."""

    def __init__(self, words: Int64, at: Int64, fields: Fields) -> None:
        self._words = words
        self._at = at
        self._fields = fields

    def __getitem__(self, name: str) -> Array:
        word, dtype = self._fields[name]
        return self._words[self._at + word].view(dtype)


@lru_cache(maxsize=4096)
def _plain_fields(family: Family, place: int, fold_place: int) -> Fields | None:
    """Return the word and type of each column of a fold, where columns are all that it reads."""
    plan, stored = family.plans[place], family.stored_types[place]
    statistic = plan.statistics[fold_place]
    if statistic.columnwise is None:
        return None
    fields: Any = stored.fields
    found = {}
    for own in statistic.row_type.names or ():
        name = plan.name_of(fold_place, own)
        if statistic.row_type[own] != stored[name] or stored[name].shape:
            return None
        found[own] = (fields[name][1] // WORD, stored[name])
    return found


def span_of(feature: FeatureSpec) -> tuple[int | None, int, int | None]:
    """Return what says how far back a feature looks: equal ones of a plan count the same rows."""
    return feature.window, feature.calendar, feature.ttl


def earliest(feature: FeatureSpec, as_of: int | Int64) -> int | Int64 | None:
    """Return the earliest ``time`` of a row that a read at ``as_of`` counts; None: any.

    That is the start of the window, and with a ``ttl`` the first moment not yet past it: an event
    is past it when ``as_of - time >= ttl``.
    """
    start = window_start(feature, as_of)
    if feature.ttl is None:
        return start
    if not statistic_of(feature.fold).keeps_events:
        problem = Problem(feature.address, f"{feature.fold.kind} takes no ttl.", "Use a window.")
        raise DefinitionError([problem])
    alive = as_of - feature.ttl + 1
    return alive if start is None else np.maximum(start, alive)


def finish(window: Window) -> Column:
    """Return the value of each segment, with the feature's default where it is missing."""
    feature = window.feature
    column = statistic_of(feature.fold).finish(window)
    if feature.default is None or column.present.all():
        return column
    values = column.values.copy()
    if feature.is_list:
        for place in np.flatnonzero(~column.present):
            values[place] = list(feature.default)
    else:
        values[~column.present] = feature.default
    return Column(values, column.present)


def _cut(tiles: Tiles, start: int | Int64 | None) -> tuple[Array, Int64]:
    """Return the rows that a read counts, and where each key's begin among them."""
    if start is None:
        return tiles.rows, tiles.offsets
    keep = tiles.time >= per_row(start, tiles.offsets)
    if keep.all():
        return tiles.rows, tiles.offsets
    return tiles.rows[keep], kept_offsets(keep, tiles.offsets)
