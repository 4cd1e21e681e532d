"""Tables as slowly changing features: served, recomputed for training and naive are one value."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import feilun as fl
from feilun.aggregation import encode_key, naive
from feilun.clock import DAY, HOUR, MINUTE, ManualClock
from feilun.events.syncing import sync_table
from feilun.events.table_rows import TableRows
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import START
from feilun.testing.table_fakes import InMemorySyncs, InMemoryTables

TTL = HOUR
ITEMS = [0, 1, 2]

item = fl.Entity("item_id", int)


class Stock(fl.Table, key=item, source="warehouse.stock", time="at", lookback="1d"):
    item_id: fl.Field[int]
    quantity: fl.Field[int]
    note: fl.Field[str | None]


class Item(fl.FeatureView, entity=item):
    fresh = fl.last(Stock.quantity, ttl="1h")
    stock = fl.last(Stock.quantity)
    fresh_note = fl.last(Stock.note, ttl="1h")
    first_note = fl.first(Stock.note)
    changes = fl.count(Stock)
    least = fl.min(Stock.quantity, window="1h", hop="15m")
    notes = fl.last(Stock.note, n=2)


def make_project():
    module = ModuleType("shop")
    vars(module).update(Stock=Stock, Item=Item)
    return fl.compile(module)


PROJECT = make_project()
FEATURES = PROJECT.views["item"].features


class Warehouse:
    """A table that changes, and all that reads it."""

    def __init__(self):
        self.clock = ManualClock(START)
        self.rows = []
        self.log, self.syncs, self.store = MemoryLog(), InMemorySyncs(), MemoryStore()
        self.engine = Engine(PROJECT, self.log, self.store)

    def sync(self):
        source = InMemoryTables({"stock": self.rows})
        rows = TableRows(PROJECT, "stock")
        done = sync_table(rows, lambda: source, self.log, self.syncs, self.clock)
        while self.engine.run_once():
            pass
        return done

    def online(self, as_of):
        with OnlineReader(PROJECT, self.store).snapshot() as snapshot:
            columns = snapshot.read(FEATURES, {}, "item_id", ITEMS, as_of)
            return snapshot.mark.offset, plain(columns)

    def past(self, as_of, known, how="offset"):
        size = len(ITEMS)
        spine = Spine({"item_id": ITEMS}, np.full(size, as_of), np.full(size, known))
        frames = event_frames(PROJECT, self.log.read(0), known=how)
        return plain(point_in_time(PROJECT, FEATURES, spine, frames))

    def oracle(self, as_of, known):
        frame = event_frames(PROJECT, self.log.read(0)).get("stock")
        if frame is None:
            return None
        return {
            feature.address: [
                naive(feature, frame, encode_key(feature.fold.keys, [key]), as_of, known)
                for key in ITEMS
            ]
            for feature in FEATURES
        }


def plain(columns):
    return {
        address: [
            value if present else None
            for value, present in zip(column.values.tolist(), column.present.tolist(), strict=True)
        ]
        for address, column in columns.items()
    }


def meaning(rows, key, as_of):
    """What a slowly changing feature is, in words: the newest row's value while it is fresh."""
    mine = [row for row in rows if row["item_id"] == key and row["at"] < as_of]
    if not mine:
        return None
    newest = max(mine, key=lambda row: row["at"])
    return newest["quantity"] if as_of - newest["at"] < TTL else None


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_what_was_served_is_what_training_sees_at_every_moment(data):
    world = Warehouse()
    served, known_rows = [], []
    times = set()
    for _ in range(data.draw(st.integers(1, 4))):
        world.clock.advance(data.draw(st.sampled_from([MINUTE, 30 * MINUTE, HOUR, 2 * HOUR])))
        for _ in range(data.draw(st.integers(0, 4))):
            key = data.draw(st.sampled_from(ITEMS))
            at = world.clock.now() - data.draw(st.sampled_from([0, 1, MINUTE, HOUR, 3 * HOUR]))
            if (key, at) not in times:
                times.add((key, at))
                note = data.draw(st.sampled_from([None, "", "京"]))
                world.rows.append({"item_id": key, "quantity": len(times), "note": note, "at": at})
        world.sync()
        known_rows = list(world.rows)
        last = max((at for _, at in times), default=world.clock.now())
        edges = {at + TTL + beside for _, at in times for beside in (-1, 0, 1)}
        moments = sorted(edge for edge in {*edges, last + 1, last + DAY} if edge > last)
        for as_of in data.draw(st.lists(st.sampled_from(moments), min_size=1, max_size=4)):
            offset, values = world.online(as_of)
            served.append((as_of, offset, values))
            fresh = [meaning(known_rows, key, as_of) for key in ITEMS]
            assert values["item:fresh"] == fresh
    for as_of, offset, values in served:  # with all that came later in the log
        assert world.past(as_of, offset) == values
        naive_values = world.oracle(as_of, offset)
        if naive_values is not None:
            assert naive_values == values


def test_the_ttl_ends_at_the_microsecond():
    world = Warehouse()
    world.rows.append({"item_id": 1, "quantity": 5, "note": None, "at": START})
    world.sync()
    for as_of, expected in ((START + 1, 5), (START + TTL - 1, 5), (START + TTL, None)):
        offset, values = world.online(as_of)
        assert values["item:fresh"][1] == expected
        assert values["item:stock"][1] == 5
        assert world.past(as_of, offset) == values == world.oracle(as_of, offset)


def test_no_example_sees_a_row_before_it_was_synchronised():
    world = Warehouse()
    world.rows.append({"item_id": 1, "quantity": 5, "note": None, "at": START - DAY})
    world.sync()
    world.clock.advance(HOUR)
    world.rows.append({"item_id": 1, "quantity": 4, "note": None, "at": START - MINUTE})
    world.sync()
    for as_of, expected in (
        (START, None),
        (START + 1, 5),
        (START + HOUR, 5),
        (START + HOUR + 1, 4),
    ):
        found = world.past(as_of, as_of, how="available")
        assert found["item:stock"][1] == expected


def test_an_absent_value_leaves_the_one_before_it():
    world = Warehouse()
    world.rows += [
        {"item_id": 1, "quantity": 5, "note": "京", "at": START - MINUTE},
        {"item_id": 1, "quantity": 4, "note": None, "at": START},
    ]
    world.sync()
    _, values = world.online(START + 1)
    assert (values["item:stock"][1], values["item:fresh_note"][1]) == (4, "京")
