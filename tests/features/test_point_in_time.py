from __future__ import annotations

import numpy as np
import pytest

from feilun.errors import InputError
from feilun.features.frames import event_frames
from feilun.features.point_in_time import Spine, point_in_time


def spine(keys, as_of, known):
    return Spine(keys, np.array(as_of, np.int64), np.array(known, np.int64))


def test_lists_of_candidates_as_they_were(shop):
    recent = shop.feature("recent", "last", "user", of="item", n=2)
    popular = shop.feature("popular", "top", of="item", n=1)
    records = [shop.buy(1, 10), shop.buy(1, 11), shop.buy(2, 11), shop.buy(1, 12)]
    frames = event_frames(shop.project(), enumerate(records))
    ends = [record.time + 1 for record in records]
    asked = spine({"user": [1, 1, 1, 3]}, [ends[0], ends[2], ends[3], ends[3]], [4, 4, 4, 4])
    columns = point_in_time(shop.project(), [recent, popular], asked, frames)
    found = columns["view:recent"]
    assert [list(v) for v in found.values] == [[10], [11, 10], [12, 11], []]
    assert found.present.tolist() == [True, True, True, False]
    assert [list(v) for v in columns["view:popular"].values] == [[10], [11], [11], [11]]


def test_what_was_not_known_does_not_count(shop):
    count = shop.feature("count", "count", "user")
    records = [shop.buy(1, 1, time=shop.start), shop.buy(1, 1, time=shop.start)]
    frames = event_frames(shop.project(), enumerate(records))
    asked = spine({"user": [1, 1, 1]}, [shop.start + 1] * 3, [0, 1, 2])
    column = point_in_time(shop.project(), [count], asked, frames)["view:count"]
    assert column.values.tolist() == [0, 1, 2]


def test_an_event_that_never_happened(shop):
    features = [
        shop.feature("count", "count", "user"),
        shop.feature("last", "last", "user", of="city"),
    ]
    columns = point_in_time(shop.project(), features, spine({"user": [1]}, [1], [1]), {})
    assert columns["view:count"].values.tolist() == [0]
    assert columns["view:last"].present.tolist() == [False]


def test_a_spine_of_nothing(shop):
    count = shop.feature("count", "count", "user")
    columns = point_in_time(shop.project(), [count], spine({"user": []}, [], []), {})
    assert len(columns["view:count"].values) == 0


@pytest.mark.parametrize(
    ("keys", "known", "match"),
    [({}, [1], "does not say user"), ({"user": [1, 2]}, [1], "2 values of user"),
     ({"user": [1]}, [1, 2], "2 values of known"), ({"user": ["x"]}, [1], "user must be")],
)  # fmt: skip
def test_a_spine_that_does_not_fit(shop, keys, known, match):
    count = shop.feature("count", "count", "user")
    with pytest.raises(InputError, match=match):
        point_in_time(shop.project(), [count], spine(keys, [1], known), {})
