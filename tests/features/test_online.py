from __future__ import annotations

import numpy as np
import pytest

from feilun.adapters.lmdb import LmdbOnlineStore
from feilun.clock import HOUR
from feilun.errors import InputError
from feilun.features import online as online_module
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.testing.fakes import MemoryLog, MemoryStore


class CountingSnapshot:
    def __init__(self, snapshot, calls):
        self.mark, self.version, self.get = snapshot.mark, snapshot.version, snapshot.get
        self.calls, self._snapshot = calls, snapshot

    def get_many(self, keys):
        self.calls.append(len(keys))
        return self._snapshot.get_many(keys)


@pytest.fixture(params=["memory", "lmdb"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else LmdbOnlineStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def features(shop):
    return [
        shop.feature("popular", "top", of="item", n=2),
        shop.feature("bought", "count", "user"),
        shop.feature("heat", "count", "item", window=2 * HOUR),
        shop.feature("hotter", "count", "item", window=HOUR),
        shop.feature("pair", "count", "item user"),
        shop.feature("mean", "mean", "user item", of="price"),
    ]


def filled(shop, features, store):
    log = MemoryLog()
    times = [shop.start + n * HOUR // 2 for n in range(6)]
    pairs = [(1, 10), (1, 11), (2, 10), (1, 10), (2, 12), (1, 12)]
    log.append(
        [shop.buy(u, i, None, float(i), time=t) for (u, i), t in zip(pairs, times, strict=True)]
    )
    project = shop.project(*features)
    Engine(project, log, store).run_once()
    return OnlineReader(project, store)


def read(reader, features, keys, item=None, items=()):
    with reader.snapshot() as snapshot:
        columns = snapshot.read(features, keys, item, items, snapshot.mark.time + 1)
    return {
        address.partition(":")[2]: [
            v if p else None for v, p in zip(c.values.tolist(), c.present.tolist(), strict=True)
        ]
        for address, c in columns.items()
    }


def test_items_keys_and_no_keys_in_one_read(shop, features, store):
    reader = filled(shop, features, store)
    assert read(reader, features, {"user": 1}, "item", [10, 99, 12]) == {
        "popular": [[10, 12]],
        "bought": [4],
        "heat": [3, 0, 2],
        "hotter": [2, 0, 2],
        "pair": [2, 0, 1],
        "mean": [10.0, None, 12.0],
    }


def test_the_order_of_the_answer_is_that_of_the_features(shop, features, store):
    reader = filled(shop, features, store)
    backwards = features[::-1]
    found = read(reader, backwards, {"user": 1, "item": 10})
    assert list(found) == [feature.name for feature in backwards]
    assert found["pair"] == [2]


def test_no_items_give_no_rows(shop, features, store):
    found = read(filled(shop, features, store), features, {"user": 1}, "item", [])
    assert found["pair"] == found["mean"] == found["heat"] == []
    assert found["bought"] == [4]


def test_one_look_up_a_key_whatever_the_number_of_features(shop, features):
    reader = filled(shop, features, MemoryStore())
    calls = []
    with reader.snapshot() as snapshot:
        snapshot._moment = CountingSnapshot(snapshot._moment, calls)
        snapshot.read(features, {"user": 1}, "item", [10, 11], snapshot.mark.time + 1)
    pairs = {(feature.fold.keys) for feature in features if len(feature.fold.keys) == 2}
    assert len(pairs) == 2  # (item, user) and (user, item) are stored apart
    assert calls == [1 + 1 + 2 + 2 * 2]  # what is there; nobody, the user, the items, the pairs


def test_defaults_stand_where_nothing_is_present(shop, store):
    spent = shop.feature("spent", "mean", "user", of="price", default=-1.0)
    likes = shop.feature("likes", "last", "user", of="item", n=3, default=[7])
    reader = filled(shop, [spent, likes], store)
    unbuilt = shop.feature("unbuilt", "mean", "item", of="price", default=-2.0)
    lists = shop.feature("lists", "last", "item", of="user", n=3, default=[8])
    with reader.snapshot() as snapshot:
        columns = snapshot.read(
            [spent, likes, unbuilt, lists],
            {"user": 9, "item": 10},
            None,
            (),
            snapshot.mark.time + 1,
        )
    assert [c.values.tolist()[0] for c in columns.values()] == [-1.0, [7], -2.0, [8]]
    assert not any(c.present[0] for c in columns.values())


def test_a_snapshot_stands_still_while_the_engine_goes_on(shop, features, store):
    bought = features[1]
    project = shop.project(bought)
    log = MemoryLog()
    engine, reader = Engine(project, log, store), OnlineReader(project, store)
    log.append([shop.buy(1, 1)])
    engine.run_once()
    with reader.snapshot() as snapshot:
        log.append([shop.buy(1, 1)])
        engine.run_once()
        column = snapshot.read([bought], {"user": 1}, None, (), snapshot.mark.time + 1)
        assert (snapshot.mark.offset, column["view:bought"].values.tolist()) == (1, [1])
    assert read(reader, [bought], {"user": 1}) == {"bought": [2]}


@pytest.mark.parametrize(
    ("keys", "match"),
    [({}, "user is missing"), ({"user": "x"}, "user must be"), ({"user": [1]}, "user must be"),
     ({"user": True}, "user must be"), ({"user": 1.0}, "user must be")],
)  # fmt: skip
def test_keys_that_cannot_be_used(shop, features, keys, match):
    reader = filled(shop, features, MemoryStore())
    read(reader, [features[1]], {"user": 1})  # 1 == True == 1.0, also in a cache
    with pytest.raises(InputError, match=match):
        read(reader, [features[1]], keys)


def test_a_read_of_the_past_is_refused(shop, features):
    reader = filled(shop, features, MemoryStore())
    with reader.snapshot() as snapshot, pytest.raises(InputError, match="not after"):
        snapshot.read(features, {"user": 1}, "item", [], snapshot.mark.time)


def test_plans_are_made_once_and_do_not_pile_up(shop, features, monkeypatch):
    store = MemoryStore()
    reader = filled(shop, features, store)
    monkeypatch.setattr(online_module, "_MAX_PLANS", 4)
    with store.snapshot() as moment:
        assert reader.plan(features, moment) is reader.plan(tuple(features), moment)
        for n in range(20):
            few = (shop.feature(str(n), "count"),)
            assert reader.plan(few, moment) is reader.plan(few, moment)
        assert len(reader._known.plans) <= 4


def test_a_row_is_what_the_arrays_give(shop, features, store):
    dear = shop.feature("dear", "max", "item", of="price", window=HOUR, default=-1.0)
    recent = shop.feature("recent", "last", "item", of="user", n=2)
    city = shop.feature("city", "last", "item", of="city", default="nowhere")
    every = [*features, dear, recent, city]
    reader = filled(shop, every, store)
    for keys in ({"user": 1, "item": 12}, {"user": 2, "item": 12}, {"user": 9, "item": 10}):
        with reader.snapshot() as snapshot:
            moment = snapshot.mark.time + 1
            row = snapshot.read_row(every, keys, moment)
            columns = snapshot.read(every, keys, None, (), moment)
        assert list(row.values) == list(columns)
        for address, column in columns.items():
            value, present = column.values.tolist()[0], bool(column.present[0])
            assert (address not in row.missing) == present
            if present or address in ("view:dear", "view:city"):
                assert (type(row.values[address]), row.values[address]) == (type(value), value)
            else:
                assert row.values[address] is None


def test_before_anything_was_folded(shop, features):
    reader = OnlineReader(shop.project(*features), MemoryStore())
    with reader.snapshot() as snapshot:
        columns = snapshot.read(features, {"user": 1}, "item", [10], 1)
        assert len(snapshot.unbuilt(features)) == len(features)
    assert not any(np.any(column.present) for column in columns.values())
