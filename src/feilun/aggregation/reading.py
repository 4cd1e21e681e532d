"""Values from tiles: ``read``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feilun.aggregation.folding import kept_offsets
from feilun.aggregation.frames import Array, Column, Int64
from feilun.aggregation.hops import window_start
from feilun.aggregation.plan import Plan
from feilun.aggregation.statistics import Window, statistic_of
from feilun.aggregation.statistics.base import per_row
from feilun.aggregation.tiles import Tiles
from feilun.definitions.specs import FeatureSpec
from feilun.errors import DefinitionError, Problem


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
    return with_default(window.feature, statistic_of(window.feature.fold).finish(window))


def with_default(feature: FeatureSpec, column: Column) -> Column:
    """Return the column with the feature's default, if it has one, where a value is missing."""
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
