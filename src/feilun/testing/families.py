"""Families of features for Hypothesis, their events, and their blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from feilun.aggregation import Family, Tiles, encode, fold_all, merge
from feilun.aggregation.frames import Column, EventFrame
from feilun.definitions.specs import FeatureSpec
from feilun.testing.strategies import KINDS, event_frames, features


@st.composite
def feature_lists(draw: st.DrawFn) -> list[FeatureSpec]:
    """Several features over the same events: some share tiles, some only keys."""
    first = draw(features(draw(st.sampled_from(KINDS))))
    more = [draw(features(draw(st.sampled_from(KINDS)))) for _ in range(draw(st.integers(1, 5)))]
    found = [first]
    for other in more:
        feature, fold = other, other.fold
        fold = replace(fold, keys=first.fold.keys, timezone=first.fold.timezone)
        if draw(st.booleans()) and feature.calendar == first.calendar:
            fold = replace(fold, hop=first.fold.hop, where=first.fold.where)
            feature = replace(feature, window=first.window, ttl=None)
        if fold.field is not None:  # each type of value has a field of its own
            fold = replace(fold, field=f"{fold.dtype}_value")
        found.append(replace(feature, fold=fold))
    if first.fold.field is not None:
        fold = replace(first.fold, field=f"{first.fold.dtype}_value")
        found[0] = replace(first, fold=fold)
    return [replace(feature, name=f"f{n}") for n, feature in enumerate(found)]


@st.composite
def events_for(draw: st.DrawFn, of: Sequence[FeatureSpec]) -> EventFrame:
    """Events with a field for each type of value that the features aggregate."""
    base = draw(event_frames(of[0]))
    columns = dict(base.columns)
    for feature in of[1:]:
        drawn = draw(event_frames(feature))
        for name in drawn.columns.keys() - columns.keys():
            columns[name] = _stretched(drawn.columns[name], len(base))
    return replace(base, columns=columns)


def _stretched(column: Column, size: int) -> Column:
    """Return the column's values over and over; absent where it has none."""
    if len(column.present):
        return column.take(np.resize(np.arange(len(column.present)), size))
    shape = (size, *column.values.shape[1:])
    return Column(np.zeros(shape, column.values.dtype), np.zeros(size, np.bool_))


def blobs_of(family: Family, events: EventFrame) -> list[tuple[bytes, bytes]]:
    """Fold events; return each key with its blob."""
    folded = fold_all(family.plans, events)
    keys = sorted({key for tiles in folded for key in tiles.keys})
    nothing = np.zeros(len(keys) + 1, np.int64)
    whole = [
        merge(plan, tiles, Tiles(keys, nothing, tiles.rows[:0]))
        for plan, tiles in zip(family.plans, folded, strict=True)
    ]
    return list(zip(keys, encode(family, whole), strict=True))
