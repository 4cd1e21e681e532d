"""The laws of the kernel, for every statistic."""

import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.aggregation import Column, EventFrame, naive
from feilun.aggregation.reading import earliest
from feilun.aggregation.statistics import Window, statistic_of
from feilun.aggregation.statistics.distinct import Distinct
from feilun.aggregation.statistics.top import Top
from feilun.testing.one_fold import decode, encode, expire, fold, merge, read, read_past, zero
from feilun.testing.strategies import KINDS, event_frames, features, read_moments

EVERYTHING = 10**9


def law(examples, kinds=KINDS):
    """Try a law on so many examples of every kind; on 25 times as many in the soak."""

    def decorate(body):
        @pytest.mark.parametrize("times", [1, pytest.param(25, marks=pytest.mark.soak)])
        @pytest.mark.parametrize("kind", kinds)
        def test(kind, times):
            @settings(
                deadline=None,  # a busy machine must not fail a law
                max_examples=examples * times,
                suppress_health_check=[HealthCheck.too_slow],
            )
            @given(st.data())
            def holds(data):
                body(kind, data)

            holds()

        return test

    return decorate


def contents(tiles):
    """Everything in tiles, such that equal means equal to the bit."""
    rows = tiles.rows.tolist() if tiles.rows.dtype.hasobject else tiles.rows.tobytes()
    return list(tiles.keys), tiles.offsets.tolist(), rows


def magnitudes(spec, events):
    """The events with the sizes of the field's values: what the laws of floats measure by."""
    if spec.field is None:
        return events
    field = events.columns[spec.field]
    sizes = Column(np.abs(field.values.astype(np.float64)), field.present)
    return EventFrame(events.time, events.tie, events.known, {**events.columns, spec.field: sizes})


def tolerances(spec, events):
    """How far each column of floats that are added may be off."""
    sizes = fold(replace(spec, dtype="float") if spec.dtype in ("int", "bool") else spec,
                 magnitudes(spec, events)).rows  # fmt: skip
    if spec.kind in ("var", "std"):
        root = np.hypot(sizes["norm"], np.sqrt(sizes["n"]) * sizes["mean"])
        return {"mean": 1e-9 * sizes["mean"], "norm": 1e-9 * root}
    return {"sum": 1e-9 * sizes["sum"]}


def assert_same_tiles(spec, events, a, b):
    """Assert that both are the tiles of ``events``: to the bit, but for floats that are added."""
    names = a.rows.dtype.names
    if not {"sum", "norm"} & set(names):
        assert contents(a) == contents(b)
        return
    assert (list(a.keys), a.offsets.tolist()) == (list(b.keys), b.offsets.tolist())
    allowed = tolerances(spec, events)
    for name in names:
        if name in allowed:
            assert (np.abs(a.rows[name] - b.rows[name]) <= allowed[name] + 1e-300).all()
        else:
            assert a.rows[name].tolist() == b.rows[name].tolist()


def assert_is_naive(feature, events, key, as_of, known, present, value):
    """Assert that ``value`` is what the oracle says."""
    expected = naive(feature, events, key, as_of, known)
    assert present == (expected is not None)
    if expected is None:
        return
    kind, vector = feature.fold.kind, feature.fold.dtype == "vector"
    if kind == "quantile":
        assert_is_near_quantile(value, expected)
    elif kind in ("var", "std"):
        assert_is_near_spread(feature, events, key, as_of, known, value)
    elif kind in ("mean", "decayed") or (kind == "sum" and type(expected) is float):
        size = naive(feature, magnitudes(feature.fold, events), key, as_of, known)
        value, expected, size = (v if vector else [v] for v in (value, expected, size))
        for got, exact, scale in zip(value, expected, size, strict=True):
            assert math.isfinite(got)
            assert abs(got - exact) <= 1e-9 * scale + 1e-290
    else:
        assert (type(value), value) == (type(expected), expected)


def assert_is_near_quantile(value, expected):
    if abs(expected) < 2.0**-30:
        assert value == 0
    elif abs(expected) > 2.0**64:
        assert value == math.copysign(2.0**64, expected)
    else:
        assert abs(value - expected) <= abs(expected) / 128


def assert_is_near_spread(feature, events, key, as_of, known, value):
    """Assert that a deviation is within 1e-9 of √(Σx² / (n − 1)), and a variance its square."""
    sizes = magnitudes(feature.fold, events)

    def exact(kind, frame):
        spec = replace(feature.fold, kind=kind)
        return naive(replace(feature, fold=spec), frame, key, as_of, known)

    n = exact("count", events)
    quarter = math.hypot(exact("std", sizes) / 4, exact("mean", sizes) / 4 * math.sqrt(n / (n - 1)))
    expected, deviation = exact("std", events), value
    if feature.fold.kind == "var":
        expected, deviation = min(expected, 1.34078079299426e154), math.sqrt(value)
    assert abs(deviation - expected) <= 4e-9 * quarter + 1e-161


def dealt(data, events, parts):
    """The events, shuffled and dealt out."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    order, share = random.permutation(len(events)), random.integers(0, parts, len(events))
    return [events.take(order[share == part]) for part in range(parts)]


def states_obey(data, feature):
    """Fold is the merge of folds; merge is associative, commutative, and changes nothing."""
    spec, events = feature.fold, data.draw(event_frames(feature))
    a, b, c = (fold(spec, part) for part in dealt(data, events, 3))
    before = contents(a), contents(b), contents(c)
    whole = merge(spec, merge(spec, a, b), c)
    assert_same_tiles(spec, events, whole, fold(spec, events))
    assert_same_tiles(spec, events, whole, merge(spec, a, merge(spec, b, c)))
    assert_same_tiles(spec, events, whole, merge(spec, c, merge(spec, b, a)))
    assert contents(merge(spec, whole, zero(spec))) == contents(whole)
    assert contents(merge(spec, zero(spec), whole)) == contents(whole)
    stored = encode(spec, whole)
    again = decode(spec, [key for key, _ in stored], [blob for _, blob in stored])
    assert contents(again) == contents(whole)
    moment = data.draw(read_moments(feature, events))
    expire(spec, a, moment)
    read(feature, a, None, moment)
    assert (contents(a), contents(b), contents(c)) == before


@law(20)
def test_states_are_functions_of_the_multiset_and_survive_their_bytes(kind, data):
    states_obey(data, data.draw(features(kind)))


@law(25, kinds=("distinct", "top"))
def test_bounded_states_are_too(kind, data):
    with kept(3):
        states_obey(data, data.draw(features(kind)))


@law(10)
def test_decoding_keeps_the_order_of_the_keys_and_knows_absent_ones(kind, data):
    feature = data.draw(features(kind))
    spec, events = feature.fold, data.draw(event_frames(feature))
    stored = dict(encode(spec, fold(spec, events)))
    keys = data.draw(st.permutations([*stored, b"absent", b"gone"]))
    tiles = decode(spec, keys, [stored.get(key) for key in keys])
    assert list(tiles.keys) == keys
    for place, key in enumerate(keys):
        rows = tiles.rows[tiles.offsets[place] : tiles.offsets[place + 1]]
        assert plain(rows) == plain(decode(spec, [key], [stored.get(key)]).rows)


@law(10)
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


def a_read_is_naive(data, feature):
    events = data.draw(event_frames(feature))
    as_of = data.draw(read_moments(feature, events))
    events = events.take(events.time < as_of)
    tiles = fold(feature.fold, events)
    asked = np.array(data.draw(st.lists(st.integers(-1, len(tiles) - 1), max_size=5)), np.int64)
    keys = [tiles.keys[row] if row >= 0 else b"unknown" for row in asked.tolist()]
    for rows, names in ((None, tiles.keys), (asked, keys)):
        column = read(feature, tiles, rows, as_of)
        values = column.values.tolist()
        assert len(values) == len(column.present) == len(names)
        for key, present, value in zip(names, column.present, values, strict=True):
            assert_is_naive(feature, events, key, as_of, EVERYTHING, present, value)


@law(30)
def test_a_read_is_naive(kind, data):
    a_read_is_naive(data, data.draw(features(kind)))


@law(40, kinds=("distinct",))
def test_an_estimate_is_the_naive_function_of_the_hashes(kind, data):
    with kept(3):
        a_read_is_naive(data, data.draw(features(kind)))


def a_read_of_the_past_is_what_was_served(data, feature, is_naive):
    spec, events = feature.fold, data.draw(event_frames(feature))
    if data.draw(st.booleans()):  # offsets in the order of time, as they mostly are
        known = np.argsort(np.argsort(events.time))
        events = EventFrame(events.time, events.tie, known, events.columns)
    keys = [*fold(spec, events).keys, b"unknown"] if spec.keys else [b""]
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
    values = column.values.tolist()
    assert len(values) == len(column.present) == len(queries)
    for place, (key, moment, offset) in enumerate(queries):
        if is_naive:
            present = column.present[place]
            assert_is_naive(feature, events, key, moment, offset, present, values[place])
        then = events.take((events.time < moment) & (events.known < offset))
        tiles = fold(spec, then)
        row = tiles.keys.index(key) if key in tiles.keys else -1
        served = read(feature, tiles, np.array([row]), moment)
        assert served.present[0] == column.present[place]
        assert served.values.dtype == column.values.dtype
        added = spec.kind in ("decayed", "var", "std") or (
            spec.dtype in ("float", "vector") and spec.kind in ("sum", "mean")
        )
        if served.present[0] and not added:
            assert served.values.tolist()[0] == values[place]


@law(30)
def test_a_read_of_the_past_is_naive_and_what_was_served(kind, data):
    a_read_of_the_past_is_what_was_served(data, data.draw(features(kind)), is_naive=True)


@law(40, kinds=("distinct", "top"))
def test_a_read_of_the_past_is_what_was_served_beyond_the_bound_of_a_tile(kind, data):
    with kept(3):
        a_read_of_the_past_is_what_was_served(data, data.draw(features(kind)), is_naive=False)


@law(40, kinds=("top",))
def test_the_bounds_of_top_contain_the_truth(kind, data):
    with kept(3):
        feature = data.draw(features(kind))
        events = data.draw(event_frames(feature))
        as_of = data.draw(read_moments(feature, events))
        events = events.take(events.time < as_of)
        tiles = fold(feature.fold, events)
        start = earliest(feature, as_of)
        for place, key in enumerate(tiles.keys):
            rows = tiles.rows[tiles.offsets[place] : tiles.offsets[place + 1]]
            rows = rows if start is None else rows[rows["time"] >= start]
            window = Window(feature, rows, np.array([0, len(rows)]), as_of)
            tally = statistic_of(feature.fold).tally(window)
            listed = list(zip(tally.values.tolist(), tally.low, tally.high, strict=True))
            for value, low, high in listed:
                same = np.array([x == value for x in events.columns["value"].values], np.bool_)
                exact = naive(counting(feature), events.take(same), key, as_of, EVERYTHING)
                assert low <= exact <= high
            assert [high for _, _, high in listed] == sorted((h for *_, h in listed), reverse=True)
            every = naive(replace(feature, is_list=True, n=99), events, key, as_of, EVERYTHING)
            assert len(listed) >= min(3, len(every or []))


@law(20, kinds=[kind for kind in KINDS if kind != "custom"])
def test_one_value_from_plain_lists_is_naive_too(kind, data):
    feature = data.draw(features(kind))
    statistic = statistic_of(feature.fold)
    types = [statistic.row_type[name] for name in statistic.row_type.names]
    if any(of_type.kind == "b" or of_type.shape for of_type in types):
        return
    events = data.draw(event_frames(feature))
    as_of = data.draw(read_moments(feature, events))
    events = events.take(events.time < as_of)
    tiles = fold(feature.fold, events)
    start = earliest(feature, as_of)
    for place, key in enumerate(tiles.keys):
        rows = tiles.rows[tiles.offsets[place] : tiles.offsets[place + 1]]
        low = 0 if start is None else int(np.searchsorted(rows["time"], start))
        value = statistic.finish_one(plain(rows[low:]), feature, as_of)
        assert_is_naive(feature, events, key, as_of, EVERYTHING, value is not None, value)


def counting(feature):
    """The feature that counts what another one looks at."""
    return replace(feature, fold=replace(feature.fold, kind="count"), is_list=False)


def plain(rows):
    """Rows as lists, also of vectors."""
    return [rows[name].tolist() for name in rows.dtype.names]


@contextmanager
def kept(number):
    """Let tiles be full with so few values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distinct, "kept", number)
        patch.setattr(Top, "kept", number)
        yield
