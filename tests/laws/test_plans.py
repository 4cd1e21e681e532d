"""Folds that share their work and their blobs give what each would give alone."""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.aggregation import codec, fold_all, folding, make_families, reading
from feilun.aggregation.family import Family
from feilun.aggregation.frames import Column
from feilun.aggregation.single import KeyReader
from feilun.testing import one_fold
from feilun.testing.strategies import KINDS, event_frames, features, read_moments

examples = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def wanted(draw):
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
def events_for(draw, of):
    """Events with a field for each type of value that the features aggregate."""
    base = draw(event_frames(of[0]))
    columns = dict(base.columns)
    for feature in of[1:]:
        drawn = draw(event_frames(feature))
        for name in drawn.columns.keys() - columns.keys():
            columns[name] = stretched(drawn.columns[name], len(base))
    return replace(base, columns=columns)


def stretched(column, size):
    """The column's values over and over; absent where it has none."""
    if len(column.present):
        return column.take(np.resize(np.arange(len(column.present)), size))
    shape = (size, *column.values.shape[1:])
    return Column(np.zeros(shape, column.values.dtype), np.zeros(size, np.bool_))


def same(a, b):
    if a.present.tolist() != b.present.tolist():
        return False
    x, y = a.values[a.present], b.values[b.present]
    if x.dtype.kind == "f":
        return np.allclose(x, y, rtol=1e-6, atol=0) or x.tolist() == y.tolist()
    return x.tolist() == y.tolist()


@examples
@given(st.data())
def test_features_of_a_family_are_what_each_is_alone(data):
    of = data.draw(wanted())
    events = data.draw(events_for(of))
    as_of = data.draw(read_moments(of[0], events))
    events = events.take(events.time < as_of)
    (family,) = make_families(dict.fromkeys(feature.fold for feature in of))
    stored = blobs_of(family, events)
    keys, blobs = [key for key, _ in stored], [blob for _, blob in stored]
    again = codec.decode(family, [*keys, b"absent"], [*blobs, None])
    straight = codec.StoredTiles(family, [*keys, b"absent"], [*blobs, None])
    for feature in of:
        place, _ = family.place_of(feature.fold)
        (column,) = reading.read(family.plans[place], again[place], [feature], as_of)
        assert same(reading.read_stored(straight, place, [feature], as_of)[0], column)
        alone = one_fold.fold(feature.fold, events)
        rows = [list(alone.keys).index(key) if key in alone.keys else -1 for key in keys]
        expected = one_fold.read(feature, alone, np.array([*rows, -1], np.int64), as_of)
        assert same(column, expected)


@examples
@given(st.data())
def test_a_read_of_one_key_is_a_read_of_arrays(data):
    of = data.draw(wanted())
    events = data.draw(events_for(of))
    as_of = data.draw(read_moments(of[0], events))
    events = events.take(events.time < as_of)
    (family,) = make_families(dict.fromkeys(feature.fold for feature in of))
    reader = KeyReader(family, of)
    for key, blob in blobs_of(family, events):
        tiles = codec.decode(family, [key], [blob])
        values = reader.read(blob, as_of)
        for feature, value in zip(of, values, strict=True):
            place, _ = family.place_of(feature.fold)
            (column,) = reading.read(family.plans[place], tiles[place], [feature], as_of)
            assert (value is not None) == column.present[0]
            if value is not None:
                expected = column.values[:1].tolist()[0]
                assert type(value) is type(expected)
                array = np.array([value]) if isinstance(value, float) else None
                if array is None:
                    assert value == expected
                else:
                    assert same(Column(array, column.present), column)


def blobs_of(family: Family, events):
    folded = fold_all(family.plans, events)
    keys = sorted({key for tiles in folded for key in tiles.keys})
    nothing = np.zeros(len(keys) + 1, np.int64)
    whole = [
        folding.merge(plan, tiles, folding.Tiles(keys, nothing, tiles.rows[:0]))
        for plan, tiles in zip(family.plans, folded, strict=True)
    ]
    return list(zip(keys, codec.encode(family, keys, whole), strict=True))
