"""Folds that share their work and their blobs give what each would give alone."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.aggregation import codec, make_families, reading
from feilun.aggregation.frames import Column
from feilun.aggregation.single import KeyReader
from feilun.aggregation.stored import FamilyReader
from feilun.testing import one_fold
from feilun.testing.families import blobs_of, events_for, feature_lists
from feilun.testing.strategies import read_moments

examples = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


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
    of = data.draw(feature_lists())
    events = data.draw(events_for(of))
    as_of = data.draw(read_moments(of[0], events))
    events = events.take(events.time < as_of)
    (family,) = make_families(dict.fromkeys(feature.fold for feature in of))
    stored = blobs_of(family, events)
    keys, blobs = [key for key, _ in stored], [blob for _, blob in stored]
    again = codec.decode(family, [*keys, b"absent"], [*blobs, None])
    straight = FamilyReader(family, of).many([*keys, b"absent"], [*blobs, None], as_of)
    for feature in of:
        place, _ = family.place_of(feature.fold)
        (column,) = reading.read(family.plans[place], again[place], [feature], as_of)
        assert same(straight[feature.address], column)
        alone = one_fold.fold(feature.fold, events)
        rows = [list(alone.keys).index(key) if key in alone.keys else -1 for key in keys]
        expected = one_fold.read(feature, alone, np.array([*rows, -1], np.int64), as_of)
        assert same(column, expected)


@examples
@given(st.data())
def test_a_read_of_one_key_is_a_read_of_arrays(data):
    of = data.draw(feature_lists())
    events = data.draw(events_for(of))
    as_of = data.draw(read_moments(of[0], events))
    events = events.take(events.time < as_of)
    (family,) = make_families(dict.fromkeys(feature.fold for feature in of))
    reader, plain = FamilyReader(family, of), KeyReader(family, of)
    for key, blob in [*blobs_of(family, events), (b"absent", None)]:
        found = {}
        incomplete = reader.one(blob, as_of, found)
        assert incomplete == (None in found.values())
        tiles = codec.decode(family, [key], [blob])
        values = plain.read(blob or codec.empty_blob(family), as_of)
        for feature, value in zip(of, values, strict=True):
            place, _ = family.place_of(feature.fold)
            (column,) = reading.read(family.plans[place], tiles[place], [feature], as_of)
            check_one(found[feature.address], column)
            check_one(value, column)


def check_one(value, column):
    """See that a Python value is the only one of a column."""
    assert (value is not None) == column.present[0]
    if value is not None:
        expected = column.values[:1].tolist()[0]
        assert type(value) is type(expected)
        if isinstance(value, float):
            assert same(Column(np.array([value]), column.present), column)
        else:
            assert value == expected
