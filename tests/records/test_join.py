"""The join equals its definition, written as loops."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.definitions.specs import OutcomeSpec
from feilun.records.join import Asked, Occurrences, join

_users = st.sampled_from([1, 2, "a"])
_items = st.sampled_from([7, 8, "x"])
_moments = st.integers(0, 30)
_asked = st.builds(
    Asked,
    as_of=_moments,
    keys=st.one_of(
        st.fixed_dictionaries({"user": _users}),
        st.fixed_dictionaries({"user": _users, "shop": st.integers(0, 1)}),
        st.just({}),
        st.fixed_dictionaries({"unseen": _users}),
    ),
    item=st.sampled_from(["item", "item", "", "unseen"]),
    items=st.lists(_items, max_size=4),
)
_events = st.lists(
    st.tuples(_moments, st.none() | _users, st.none() | _items, st.none() | st.integers(0, 1)),
    max_size=12,
)


def _naive(outcome, asked, events, clock):
    labels = []
    for one in asked:
        for value in one.items if one.item else [None]:
            count = 0
            for moment, user, item, shop in events:
                fields = {"user": user, "item": item, "shop": shop}
                wanted = {n: v for n, v in one.keys.items() if n in fields}
                if one.item in fields:
                    wanted[one.item] = value
                same = all(fields[name] == v for name, v in wanted.items())
                count += same and one.as_of <= moment < one.as_of + outcome.within
            label = min(count, 1) if outcome.measure == "happened" else count
            labels.append(label if one.as_of + outcome.within <= clock else np.nan)
    return labels


@settings(deadline=None)
@given(
    st.lists(_asked, max_size=8),
    _events,
    st.integers(0, 45),
    st.sampled_from(["happened", "count"]),
)
def test_it_equals_the_loops(asked, events, clock, measure):
    outcome = OutcomeSpec("click", 10, measure)
    columns = list(zip(*events, strict=True)) or [(), (), (), ()]
    happened = Occurrences(
        np.array(columns[0], np.int64),
        {"user": columns[1], "item": columns[2], "shop": columns[3]},
    )
    joined = join(outcome, asked, happened, clock)
    np.testing.assert_array_equal(joined.labels, _naive(outcome, asked, events, clock))
    assert joined.rows.sum() == len(joined.labels)


def test_unripe_is_never_negative():
    outcome = OutcomeSpec("click", 10, "happened")
    none = Occurrences(np.empty(0, np.int64), {"user": []})
    for clock in range(20):
        joined = join(outcome, [Asked(5, {"user": 1})], none, clock)
        assert joined.ripe.tolist() == [clock >= 15]
        assert np.isnan(joined.labels).tolist() == [clock < 15]


def test_a_million_rows_take_no_pairwise_time():
    random = np.random.default_rng(1)
    asked = [
        Asked(int(moment), {"user": int(user)}, "item", list(range(100)))
        for moment, user in zip(
            random.integers(0, 10**6, 5_000), random.integers(0, 600, 5_000), strict=True
        )
    ]
    happened = Occurrences(
        random.integers(0, 10**6, 100_000),
        {"user": random.integers(0, 600, 100_000), "item": random.integers(0, 100, 100_000)},
    )
    started = time.perf_counter()
    joined = join(OutcomeSpec("click", 1_000, "count"), asked, happened, 10**7)
    assert time.perf_counter() - started < 10
    assert len(joined.labels) == 500_000
    assert joined.ripe.all()
