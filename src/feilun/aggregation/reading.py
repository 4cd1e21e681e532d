"""Values from tiles: ``read``."""

from __future__ import annotations

import numpy as np

from feilun.aggregation.folding import kept_offsets
from feilun.aggregation.frames import Column, Int64
from feilun.aggregation.hops import window_start
from feilun.aggregation.segments import expand
from feilun.aggregation.statistics import Window, statistic_of
from feilun.aggregation.statistics.base import per_row
from feilun.aggregation.tiles import Tiles
from feilun.definitions.specs import FeatureSpec
from feilun.errors import DefinitionError, Problem


def read(feature: FeatureSpec, tiles: Tiles, rows: Int64 | None, as_of: int | Int64) -> Column:
    """Return a feature's value for each asked-for key.

    Parameters
    ----------
    feature : FeatureSpec
        What to read; ``tiles`` must be of its fold.
    tiles : Tiles
        The states.
    rows : int64 array or None
        Places in ``tiles.keys``, in any order and with repeats; -1 is a key without tiles.
        None: every key in order.
    as_of : int or int64 array
        Now, µs UTC: later than every folded event. One for all, or one for each row.

    Returns
    -------
    Column
        Where a value is missing ``present`` is False, and the value is the feature's default if
        it has one, else NaN, 0, False, None or an empty list. Counts and sums of an empty window
        are 0 and present; any other statistic of it is missing.
    """
    offsets, states = tiles.offsets, tiles.rows
    if rows is not None:
        bounds = np.append(offsets, offsets[-1])
        rows = np.where(rows < 0, len(tiles), rows)
        index, offsets = expand(bounds[rows], bounds[rows + 1])
        states = states[index]
    start = earliest(feature, as_of)
    if start is not None:
        keep = states["time"] >= per_row(start, offsets)
        if not keep.all():
            offsets, states = kept_offsets(keep, offsets), states[keep]
    return finish(Window(feature, states, offsets, as_of))


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
