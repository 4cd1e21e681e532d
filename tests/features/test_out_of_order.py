"""Events that come late: within the window of days they count as if they had come in time."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from feilun.clock import DAY, HOUR, MINUTE, ManualClock
from feilun.events.collector import Collector
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.ports.event_log import Count
from feilun.testing.fakes import MemoryLog, MemoryStore

CITIES = ("北京", "上海", "Wien")


def features_of(shop):
    return (
        shop.feature("orders", "count", "user", window=2 * DAY),
        shop.feature("spent", "sum", "user", of="item"),
        shop.feature("first", "first", "user", of="city"),
        shop.feature("recent", "last", "user", of="item", n=5, window=6 * DAY),
        shop.feature("city", "top", "user", of="city", n=2, window=6 * DAY),
        shop.feature("pair", "count", "user item"),
        shop.feature("everybody", "distinct", of="user", window=3 * DAY),
    )


def sent(shop, count=90):
    """Return times with what happened then, over six days."""
    rng = random.Random(4)
    times = sorted(rng.sample(range(shop.start, shop.start + 6 * DAY, MINUTE), count))
    return [
        (time, {"user": rng.randrange(3), "item": rng.randrange(4), "city": rng.choice(CITIES)})
        for time in times
    ]


def served(shop, arrivals, fold_every):
    """Let events arrive in the order given; return every feature, online and by training."""
    features = features_of(shop)
    project = shop.project(*features)
    log, store, clock = MemoryLog(), MemoryStore(), ManualClock(shop.start + 6 * DAY)
    collector = Collector(project, log, clock)
    engine = Engine(project, log, store)
    for place, (time, fields) in enumerate(arrivals):
        event = {"event": "buy", "id": f"{time}", "time": time, "fields": fields}
        collector.accept("web", json.dumps(event).encode())
        if place % fold_every == 0:
            engine.run_once()
    while engine.run_once():
        pass
    as_of = shop.start + 6 * DAY + HOUR
    frames = event_frames(project, log.read(0, 10_000))
    found = {}
    with OnlineReader(project, store).snapshot() as snapshot:
        for user in range(3):
            keys = {"user": user, "item": 2}
            row = snapshot.read_row(features, keys, as_of).values
            spine = Spine({n: [v] for n, v in keys.items()}, np.array([as_of]), np.array([10_000]))
            for address, column in point_in_time(project, features, spine, frames).items():
                assert (column.values[0] if column.present[0] else None) == row[address], address
                found[user, address] = row[address]
    return found, log


@pytest.mark.parametrize("fold_every", [1, 17])
def test_whatever_the_order_of_arrival_the_features_are_the_same(shop, fold_every):
    in_time = sent(shop)
    mixed = random.Random(fold_every).sample(in_time, len(in_time))
    straight, log = served(shop, in_time, 1_000)
    assert served(shop, mixed, fold_every)[0] == straight
    assert served(shop, in_time[::-1], fold_every)[0] == straight
    assert log.counts() == {shop.event.schema_id: Count(len(in_time), 0)}


def test_what_is_older_than_the_horizon_is_kept_and_changes_nothing(shop):
    in_time = sent(shop)
    old = [(time - 30 * DAY, fields) for time, fields in in_time[:20]]
    found, log = served(shop, [*in_time[:50], *old, *in_time[50:]], 10)
    assert found == served(shop, in_time, 1_000)[0]
    assert log.counts() == {shop.event.schema_id: Count(len(in_time) + 20, 20)}
    assert log.end() == len(in_time) + 20
