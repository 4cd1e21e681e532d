"""Ranges of values, reduced in every way there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.aggregation import Column, EventFrame, ranges, read_past
from feilun.aggregation.ranges import Line, Reducer
from feilun.aggregation.segments import reduce_segments
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec


@pytest.mark.parametrize("ufunc", [np.add, np.minimum, np.maximum])
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("per_event", [0, 16])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_range_is_what_its_values_are_one_by_one(ufunc, dtype, per_event, data):
    values = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=1, max_size=60)), dtype)
    places = st.integers(0, len(values))
    pairs = data.draw(st.lists(st.tuples(places, places), max_size=20))
    lo = np.array([min(pair) for pair in pairs if pair[0] != pair[1]], np.int64)
    hi = np.array([max(pair) for pair in pairs if pair[0] != pair[1]], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_PER_EVENT", per_event)
        patch.setattr(ranges, "_BLOCK", 3)
        found = Reducer(ufunc, values).reduce(lo, hi)
    expected = [ufunc.reduce(values[a:b]) for a, b in zip(lo, hi, strict=True)]
    assert found.dtype == dtype
    assert found.tolist() == expected


def test_values_that_are_all_one_number_are_added_without_totals():
    lo, hi = np.array([0, 1, 1]), np.array([4, 2, 4])
    for number in (1, 0, -3):
        found = Reducer(np.add, np.full(4, number)).reduce(lo, hi)
        assert found.dtype == np.int64
        assert found.tolist() == [4 * number, number, 3 * number]


def test_segments_of_one_row_are_that_row():
    values, offsets = np.array([5, 7]), np.array([0, 0, 1, 2, 2])
    assert reduce_segments(np.add, values, offsets, -1).tolist() == [-1, 5, 7, -1]
    alone = reduce_segments(np.add, values, np.array([0, 1, 2]), -1)
    alone[0] = 9
    assert values.tolist() == [5, 7]


def test_vectors_are_reduced_number_by_number(monkeypatch):
    monkeypatch.setattr(ranges, "_PER_EVENT", 0)
    monkeypatch.setattr(ranges, "_BLOCK", 2)
    values = np.arange(14.0).reshape(7, 2)
    found = Reducer(np.add, values).reduce(np.array([0, 3, 1]), np.array([7, 4, 6]))
    assert found.tolist() == [[42.0, 49.0], [6.0, 7.0], [30.0, 35.0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 5, 2**62, -(2**62)])), max_size=12
    ),
    st.integers(0, 4),
    st.sampled_from([-(2**63), -1, 0, 3, 2**62, 2**63 - 1]),
)
def test_a_line_finds_the_first_that_is_not_below(pairs, code, value):
    pairs = sorted(pairs)
    codes = np.array([pair[0] for pair in pairs], np.int64)
    values = np.array([pair[1] for pair in pairs], np.int64)
    found = Line(codes, values).first(np.array([code]), np.array([value]))
    assert found.tolist() == [sum(pair < (code, value) for pair in pairs)]


def test_equal_windows_of_two_time_zones_are_two():
    user, day = EntitySpec("user", "int"), 86_400_000_000
    zones = ("Asia/Shanghai", "America/New_York")
    folds = [FoldSpec("count", "click", None, "int", (user,), day, zone) for zone in zones]
    today = [FeatureSpec("v", "f", fold, day, 1, "int", False, 1, None, None) for fold in folds]
    hours = np.arange(0, 24) * (day // 24) + 20_000 * day
    columns = {"user": Column(np.ones(24, np.int64), np.ones(24, np.bool_))}
    events = EventFrame(hours, np.zeros(24, np.uint64), np.arange(24), columns)
    asked = {"user": [1]}, np.array([hours[-1] + 1]), np.array([24])
    together = [column.values.tolist() for column in read_past(today, events, *asked)]
    assert together == [read_past([each], events, *asked)[0].values.tolist() for each in today]
    assert together[0] != together[1]
