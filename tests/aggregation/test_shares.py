"""Shares of a read of the past: nothing is lost between them, and no value shows how they fell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.aggregation import Column, EventFrame, read_past, shares
from feilun.aggregation.shares import cut, in_threads
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec

USER = EntitySpec("user", "int")
HOUR = 3_600_000_000
KINDS = ["count", "sum", "mean", "min", "max", "std", "first", "last", "top", "distinct"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=40),
    st.lists(st.integers(-1, 12), max_size=40),
    st.integers(1, 20),
)
def test_each_query_is_in_one_share_with_all_events_of_its_key(codes, asked, size):
    codes, asked = np.array(codes, np.int64), np.array(asked, np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "SHARE", size)
        patch.setattr(shares, "_THREADS", 2)
        found = cut(codes, asked)
    assert sorted(place for share in found for place in share.queries.tolist()) == list(
        range(len(asked))
    )
    for share in found:
        assert (np.diff(share.events) > 0).all()
        assert (np.diff(share.queries) > 0).all()
        assert (codes[share.events] >= share.first).all()
        keys = set(asked[share.queries].tolist()) - {-1}
        assert all(key >= share.first for key in keys)
        held = set(share.events.tolist())
        assert held.issuperset(np.flatnonzero(np.isin(codes, list(keys))).tolist())
        if len(codes) + len(asked) > size:
            assert set(codes[share.events].tolist()) <= keys


def test_results_come_in_the_order_of_the_tasks_and_errors_come_through():
    assert in_threads(abs, [-3, 2, -1]) == [3, 2, 1]
    assert in_threads(abs, []) == []
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda divisor: 1 // divisor, [1, 0, 2])


@pytest.mark.parametrize("share", [1, 50, 200])
@pytest.mark.parametrize("threads", [1, 3])
def test_neither_shares_nor_threads_change_a_value(share, threads, monkeypatch):
    random = np.random.default_rng(8)
    size, asked = 500, 80
    users = random.integers(-3, 12, size)
    columns = {
        "user": Column(users, np.ones(size, np.bool_)),
        "value": Column(random.integers(-(2**40), 2**40, size), random.random(size) < 0.9),
    }
    events = EventFrame(
        random.integers(0, 30 * HOUR, size),
        random.integers(0, 99, size).astype(np.uint64),
        random.permutation(size),
        columns,
    )
    features = [_feature(kind, window) for kind in KINDS for window in (None, 3 * HOUR)]
    keys = {"user": random.integers(-5, 15, asked)}
    moments = keys, random.integers(0, 31 * HOUR, asked), random.integers(0, size, asked)
    whole = read_past(features, events, *moments)
    monkeypatch.setattr(shares, "SHARE", share)
    monkeypatch.setattr(shares, "_THREADS", threads)
    for one, other in zip(whole, read_past(features, events, *moments), strict=True):
        assert one.values.dtype == other.values.dtype
        assert one.present.tolist() == other.present.tolist()
        if one.values.dtype == np.float64:
            np.testing.assert_allclose(other.values, one.values, rtol=1e-9)
        else:
            assert one.values.tolist() == other.values.tolist()


def _feature(kind: str, window: int | None) -> FeatureSpec:
    hop = HOUR if window else 0
    fold = FoldSpec(kind, "click", "value", "int", (USER,), hop, "UTC", n=3)
    dtype = "float" if kind in ("mean", "std") else "int"
    return FeatureSpec("v", f"{kind}_{window}", fold, window, 0, dtype, False, 1, None, None)
