"""The laws of the kernel, for every statistic."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.aggregation import (
    Column,
    EventFrame,
    decode,
    encode,
    expire,
    fold,
    merge,
    naive,
    read,
    read_past,
    zero,
)
from feilun.testing.strategies import KINDS, event_frames, features, read_moments

every_kind = pytest.mark.parametrize("kind", KINDS)
# A busy machine must not fail a law.
examples = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
EVERYTHING = 10**9


def contents(tiles):
    """Everything in tiles, such that equal means equal to the bit."""
    rows = tiles.rows.tolist() if tiles.rows.dtype.hasobject else tiles.rows.tobytes()
    return list(tiles.keys), tiles.offsets.tolist(), rows


def magnitudes(spec, events):
    """The events with the sizes of the field's values: what the law of floats measures by."""
    if spec.field is None:
        return events
    field = events.columns[spec.field]
    sizes = Column(np.abs(field.values.astype(np.float64)), field.present)
    return EventFrame(events.time, events.tie, events.known, {**events.columns, spec.field: sizes})


def assert_same_tiles(spec, events, a, b):
    """Assert that both are the tiles of ``events``: to the bit, but for floats that are added."""
    names = a.rows.dtype.names
    if "sum" not in names:
        assert contents(a) == contents(b)
        return
    assert (list(a.keys), a.offsets.tolist()) == (list(b.keys), b.offsets.tolist())
    for name in set(names) - {"sum"}:
        assert a.rows[name].tolist() == b.rows[name].tolist()
    allowed = 1e-9 * fold(spec, magnitudes(spec, events)).rows["sum"] + 1e-300
    assert (np.abs(a.rows["sum"] - b.rows["sum"]) <= allowed).all()


def assert_is_naive(feature, events, key, as_of, known, column, place):
    """Assert that ``column[place]`` is what the oracle says."""
    expected = naive(feature, events, key, as_of, known)
    assert column.present[place] == (expected is not None)
    if expected is None:
        return
    value = column.values[place : place + 1].tolist()[0]
    if feature.fold.kind in ("mean", "decayed") or type(expected) is float:
        assert math.isfinite(value)
        size = expected
        if feature.fold.kind in ("sum", "mean", "decayed"):
            size = naive(feature, magnitudes(feature.fold, events), key, as_of, known)
            assert abs(value - expected) <= 1e-9 * size + 1e-290
        else:
            assert value == expected
    else:
        assert (type(value), value) == (type(expected), expected)


def dealt(data, events, parts):
    """The events, shuffled and dealt out."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    order, share = random.permutation(len(events)), random.integers(0, parts, len(events))
    return [events.take(order[share == part]) for part in range(parts)]


@every_kind
@examples
@given(st.data())
def test_a_fold_is_the_merge_of_the_folds_of_any_split_in_any_order(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    a, b = (fold(spec, part) for part in dealt(data, events, 2))
    assert_same_tiles(spec, events, merge(spec, a, b), fold(spec, events))


@every_kind
@examples
@given(st.data())
def test_merge_is_associative_and_commutative_and_has_a_zero(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    a, b, c = (fold(spec, part) for part in dealt(data, events, 3))
    left = merge(spec, merge(spec, a, b), c)
    assert_same_tiles(spec, events, left, merge(spec, a, merge(spec, b, c)))
    assert_same_tiles(spec, events, left, merge(spec, c, merge(spec, b, a)))
    assert contents(merge(spec, left, zero(spec))) == contents(left)
    assert contents(merge(spec, zero(spec), left)) == contents(left)


@every_kind
@examples
@given(st.data())
def test_nothing_changes_its_arguments(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    a, b = (fold(spec, part) for part in dealt(data, events, 2))
    before = contents(a), contents(b)
    merge(spec, a, b)
    encode(spec, a)
    expire(spec, a, data.draw(read_moments(feature, events)))
    read(feature, a, None, data.draw(read_moments(feature, events)))
    assert (contents(a), contents(b)) == before


@every_kind
@examples
@given(st.data())
def test_tiles_survive_their_bytes(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    tiles = fold(spec, events)
    stored = encode(spec, tiles)
    again = decode(spec, [key for key, _ in stored], [blob for _, blob in stored])
    assert contents(again) == contents(tiles)


@every_kind
@examples
@given(st.data())
def test_decoding_keeps_the_order_of_the_keys_and_knows_absent_ones(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    stored = dict(encode(spec, fold(spec, events)))
    keys = data.draw(st.permutations([*stored, b"absent", b"gone"]))
    tiles = decode(spec, keys, [stored.get(key) for key in keys])
    assert list(tiles.keys) == keys
    for place, key in enumerate(keys):
        rows = tiles.rows[tiles.offsets[place] : tiles.offsets[place + 1]]
        assert rows.tolist() == decode(spec, [key], [stored.get(key)]).rows.tolist()


@every_kind
@examples
@given(st.data())
def test_what_expires_no_later_read_would_have_counted(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    now = data.draw(read_moments(feature, events))
    tiles = fold(spec, events.take(events.time < now))
    calendar = feature.calendar * 25 * 3_600_000_000 or None  # a day has at most 25 hours
    reach = [span for span in (feature.window, calendar, feature.ttl) if span is not None]
    if not reach:
        return
    left = expire(spec, tiles, now - min(reach))
    assert list(left.keys) == list(tiles.keys)
    for moment in (now, now + data.draw(st.integers(0, 10**11))):
        a, b = read(feature, tiles, None, moment), read(feature, left, None, moment)
        assert a.present.tolist() == b.present.tolist()
        assert a.values[a.present].tolist() == b.values[b.present].tolist()


@every_kind
@settings(examples, max_examples=50)
@given(st.data())
def test_a_read_is_naive(kind, data):
    feature = data.draw(features(kind))
    events = data.draw(event_frames(feature))
    as_of = data.draw(read_moments(feature, events))
    events = events.take(events.time < as_of)
    tiles = fold(feature.fold, events)
    asked = np.array(data.draw(st.lists(st.integers(-1, len(tiles) - 1), max_size=5)), np.int64)
    keys = [tiles.keys[row] if row >= 0 else b"unknown" for row in asked.tolist()]
    for rows, names in ((None, tiles.keys), (asked, keys)):
        column = read(feature, tiles, rows, as_of)
        assert len(column.values) == len(column.present) == len(names)
        for place, key in enumerate(names):
            assert_is_naive(feature, events, key, as_of, EVERYTHING, column, place)


@every_kind
@settings(examples, max_examples=50)
@given(st.data())
def test_a_read_of_the_past_is_naive_and_what_was_served(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    if data.draw(st.booleans()):  # offsets in the order of time, as they mostly are
        events = EventFrame(events.time, events.tie, np.argsort(np.argsort(events.time)),
                            events.columns)  # fmt: skip
    keys = [*fold(spec, events).keys, b"unknown"]
    offsets = st.sampled_from([33, 24, 16, 8, 0])
    queries = [
        (
            data.draw(st.sampled_from(keys)),
            data.draw(read_moments(feature, events)),
            data.draw(offsets),
        )
        for _ in range(data.draw(st.sampled_from([4, 3, 1, 0])))
    ]
    asked = [key for key, _, _ in queries]
    as_of = np.array([moment for _, moment, _ in queries], np.int64)
    known = np.array([offset for _, _, offset in queries], np.int64)
    column = read_past(feature, events, asked, as_of, known)
    assert len(column.values) == len(column.present) == len(queries)
    for place, (key, moment, offset) in enumerate(queries):
        assert_is_naive(feature, events, key, moment, offset, column, place)
        then = events.take((events.time < moment) & (events.known < offset))
        tiles = fold(spec, then)
        row = tiles.keys.index(key) if key in tiles.keys else -1
        served = read(feature, tiles, np.array([row]), moment)
        assert served.present[0] == column.present[place]
        assert served.values.dtype == column.values.dtype
        added = spec.kind == "decayed" or (spec.dtype == "float" and spec.kind in ("sum", "mean"))
        if served.present[0] and not added:
            assert served.values[0] == column.values[place]
