"""Events change while their records stay: collector, log, engine and training read all of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import HOUR, ManualClock
from feilun.definitions.evolution import changes
from feilun.definitions.specs import (
    ConditionSpec,
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    Project,
    ViewSpec,
)
from feilun.errors import DefinitionError
from feilun.events.collector import Collector
from feilun.features import engine as engine_module
from feilun.features.engine import Engine
from feilun.features.frames import FrameDecoder
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import START

USER = EntitySpec("user_id", "int")
VALUES = {
    "int": st.integers(-(2**53), 2**53),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "str": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
    "bool": st.booleans(),
    "vector": st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=2),
}


def feature(name, kind, of=None, dtype="int", event="click", required=True):
    fold = FoldSpec(kind, event, of, dtype, (USER,), 0, "UTC", required=required)
    return FeatureSpec("user", name, fold, None, 0, dtype, False, 1, None, None)


def project_of(event):
    fields = {field.name: (field.dtype, field.optional) for field in event.fields}
    features = [feature("clicks", "count")]
    price, optional = fields.get("price", ("", False))
    if price in ("int", "float"):
        features += [
            feature("spent", "sum", "price", price, required=not optional),
            feature("dearest", "max", "price", price, required=not optional),
        ]
    if "city" in fields:
        _, optional = fields["city"]
        features.append(feature("city", "last", "city", "str", required=not optional))
    views = {"user": ViewSpec("user", (USER,), tuple(features))}
    return Project("shop", "UTC", {"user_id": USER}, {event.name: event}, views, {}, {}, {})


def f(name, dtype, optional=False):
    return FieldSpec(name, dtype, optional, 2 if dtype == "vector" else 0)


def click(*fields, version=1):
    return EventSpec("click", version, (f("user_id", "int"), *fields), "user_id")


class World:
    """A log to which collectors of several versions write, and a store that lives through all."""

    def __init__(self):
        self.log, self.store, self.sent = MemoryLog(), MemoryStore(), []

    def send(self, event, **fields):
        """Send an event as ``event`` has it, from a gateway that was started for it."""
        collector = Collector(project_of(event), self.log, ManualClock(START + HOUR))
        number = len(self.sent)
        body = {"event": "click", "id": str(number), "time": START + number, "fields": fields}
        (answer,) = collector.accept("web", json.dumps(body).encode())
        assert answer.status == "accepted", answer
        self.sent.append(fields)

    def features(self, event):
        """Return what the online store says of user 1, and see that training says the same."""
        project = project_of(event)
        features = project.views["user"].features
        online, as_of, known = self.online(project, self.store)
        assert (online, as_of, known) == self.online(project, MemoryStore())
        assert known == len(self.sent)
        assert self.log.bad(0, 10) == []  # the engine has set nothing aside
        decoder = FrameDecoder(project, self.log.schemas())
        frames = decoder.decode_batches(self.log.read_batches(0)).frames
        spine = Spine({"user_id": [1]}, np.array([as_of]), np.array([known]))
        for address, column in point_in_time(project, features, spine, frames).items():
            assert (column.values[0] if column.present[0] else None) == online[address]
        return {address.partition(":")[2]: value for address, value in online.items()}

    def online(self, project, store):
        engine = Engine(project, self.log, store)
        while engine.run_once(3):
            pass
        features = project.views["user"].features
        with OnlineReader(project, store).snapshot() as snapshot:
            assert snapshot.unbuilt(features) == []
            as_of, known = snapshot.mark.time + 1, snapshot.mark.offset
            return snapshot.read_row(features, {"user_id": 1}, as_of).values, as_of, known


SHAPES = {
    "first": click(f("price", "int"), f("city", "str")),
    "priced in cents": click(f("price", "float"), f("city", "str")),
    "coloured": click(f("price", "int"), f("city", "str"), f("color", "str", True)),
    "moved": click(f("city", "str"), f("price", "int")),
    "without a city": click(f("price", "int")),
    "perhaps free": click(f("price", "int", True), f("city", "str", True), version=2),
    "all of it": click(
        f("city", "str", True), f("look", "vector", True), f("price", "float", True), version=3
    ),
    "worded": click(f("price", "str"), f("city", "str")),
    "a new field": click(f("price", "int"), f("city", "str"), f("size", "int")),
}
SAMPLE = {"price": 5, "city": "北京", "color": "red", "look": [1.0, 2.0], "size": 3}


def said(event, number):
    """Return fields for an event; every second one leaves out what it may."""
    fields = {g.name: SAMPLE[g.name] for g in event.fields[1:] if not (g.optional and number % 2)}
    if "price" in fields:
        worded = {g.name: g.dtype for g in event.fields}["price"] == "str"
        fields["price"] = f"{number}" if worded else number
    return {"user_id": 1, **fields}


@pytest.mark.parametrize("new", SHAPES)
@pytest.mark.parametrize("old", SHAPES)
def test_every_version_with_every_other(old, new):
    before, after = SHAPES[old], SHAPES[new]
    world = World()
    for number in range(3):
        world.send(before, **said(before, number))
    untouched = world.log.schemas(), world.features(before)
    if changes({before.schema_id: before}, after):
        with pytest.raises(DefinitionError, match=r"click.*click\.v"):
            Collector(project_of(after), world.log, ManualClock(START))
        with pytest.raises(DefinitionError):
            Engine(project_of(after), world.log, MemoryStore())
        assert (world.log.schemas(), world.features(before)) == untouched
        return
    for number in range(3, 6):  # an old gateway lives a little longer
        world.send(after, **said(after, number))
        if not changes({after.schema_id: after}, before):
            world.send(before, **said(before, number))
    found = world.features(after)
    assert found["clicks"] == len(world.sent)
    if "spent" in found:
        prices = [sent["price"] for sent in world.sent if "price" in sent]
        assert (found["spent"], found["dearest"]) == (sum(prices), max(prices))
    assert found.get("city", "北京") == "北京"


def test_what_was_refused_names_every_problem_and_the_way_out():
    world = World()
    world.send(SHAPES["first"], user_id=1, price=1, city="a")
    wrong = click(f("price", "str"), f("city", "int"), f("size", "int"))
    with pytest.raises(DefinitionError) as caught:
        Collector(project_of(wrong), world.log, ManualClock(START))
    assert [problem.where for problem in caught.value.problems] == [
        "click.price",
        "click.city",
        "click.size",
    ]
    assert all(problem.fix for problem in caught.value.problems)


def test_a_shape_that_nothing_was_stored_of_binds_nobody():
    world = World()
    Collector(project_of(SHAPES["worded"]), world.log, ManualClock(START))
    world.send(SHAPES["first"], user_id=1, price=7, city="a")
    assert world.features(SHAPES["first"])["spent"] == 7


class Evolving:
    """An event that changes in allowed ways, drawn from ``data``."""

    def __init__(self, data):
        self.data, self.names, self.gone = data, (f"f{n}" for n in count()), {}
        self.event = click(f("a", "int"), f("b", "str"))

    def change(self):
        fields = list(self.event.fields[1:])
        ways = ["add", "version"]
        if fields:
            ways += ["remove", "widen", "loosen", "move"]
        if self.gone:
            ways.append("come back")
        way = self.data.draw(st.sampled_from(ways))
        at = self.data.draw(st.integers(0, max(len(fields) - 1, 0)))
        if way == "add":
            dtype = self.data.draw(st.sampled_from(sorted(VALUES)))
            fields.insert(at, f(next(self.names), dtype, optional=True))
        elif way == "come back":
            name = self.data.draw(st.sampled_from(sorted(self.gone)))
            fields.insert(at, replace(self.gone.pop(name), optional=True))
        elif way == "remove":
            field = fields.pop(at)
            self.gone[field.name] = field
        elif way == "widen" and fields[at].dtype == "int":
            fields[at] = replace(fields[at], dtype="float")
        elif way == "loosen":
            fields[at] = replace(fields[at], optional=True)
        elif way == "move":
            fields = self.data.draw(st.permutations(fields))
        version = self.event.version + (way == "version")
        self.event = click(*fields, version=version)

    def fields(self):
        drawn = {}
        for field in self.event.fields[1:]:
            value = self.data.draw(VALUES[field.dtype])
            if not (field.optional and self.data.draw(st.booleans())):
                drawn[field.name] = value
        return drawn


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_changes_every_stored_event_keeps_its_values(data):
    world, evolving = World(), Evolving(data)
    for _ in range(data.draw(st.integers(1, 6))):
        evolving.change()
        for _ in range(data.draw(st.integers(0, 2))):
            world.send(evolving.event, user_id=len(world.sent), **evolving.fields())
    event = evolving.event
    log = world.log
    Engine(project_of(event), log, MemoryStore())
    decoded = FrameDecoder(project_of(event), log.schemas()).decode(log.read(0))
    assert (decoded.unknown, decoded.unusable) == (Counter(), [])
    if not world.sent:
        return
    frame = decoded.frames["click"]
    rows = {int(user): row for row, user in enumerate(frame.columns["user_id"].values)}
    for number, sent in enumerate(world.sent):
        for field in event.fields[1:]:
            column, row = frame.columns[field.name], rows[number]
            assert column.present[row] == (field.name in sent)
            if field.name in sent:
                found = column.values[row]
                assert (found.tolist() if field.dtype == "vector" else found) == sent[field.name]


def test_a_field_that_comes_back_was_absent_meanwhile():
    world, city = World(), f("city", "str")
    without, perhaps = click(city), click(city, f("price", "int", True))
    for event in (SHAPES["first"], without, perhaps, without, perhaps):
        for number in range(3):
            world.send(event, **said(event, number))
        found = world.features(event)
        assert found["clicks"] == len(world.sent)
        prices = [sent["price"] for sent in world.sent if "price" in sent]
        assert event is without or (found["spent"], found["dearest"]) == (sum(prices), max(prices))


def test_a_field_that_becomes_optional_has_its_own_features_built_anew_and_no_others(monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 1)
    world = World()
    before = click(f("price", "int"), f("city", "str"), f("size", "int"))
    after = click(f("price", "int", optional=True), f("city", "str"), f("size", "int"), version=2)
    for number in range(5):
        world.send(before, user_id=1, price=number, city=f"{number}", size=1)
    assert world.features(before) == {"clicks": 5, "spent": 10, "dearest": 4, "city": "4"}
    for number in range(5, 8):
        world.send(after, user_id=1, city=f"{number}", size=1)
    project = project_of(after)
    features = project.views["user"].features
    engine = Engine(project, world.log, world.store)
    built = []
    while engine.run_once(1):
        with OnlineReader(project, world.store).snapshot() as snapshot:
            built.append(snapshot.unbuilt(features))
            row = snapshot.read_row(features, {"user_id": 1}, snapshot.mark.time + 1)
            assert row.values["user:clicks"] == snapshot.mark.offset
            assert row.values["user:city"] == str(snapshot.mark.offset - 1)
    assert built[0] == ["user:spent", "user:dearest"]
    assert built[-1] == []
    assert world.features(after) == {"clicks": 8, "spent": 10, "dearest": 4, "city": "7"}
    world.send(after, user_id=1, price=2, city="8", size=1)
    assert world.features(after) == {"clicks": 9, "spent": 12, "dearest": 4, "city": "8"}


def test_a_condition_sees_that_a_field_is_absent_though_it_was_required_once():
    world = World()

    def project(event, required):
        whole = project_of(event)
        sizes = [
            feature("sizes", "count"),
            feature("size", "sum", "size"),
            feature("paid", "sum", "price", required=required),
        ]
        where = ConditionSpec("<", "price", 3)
        few = [replace(each, fold=replace(each.fold, where=where)) for each in sizes]
        return replace(whole, views={"user": ViewSpec("user", (USER,), tuple(few))})

    before = click(f("price", "int"), f("city", "str"), f("size", "int"))
    after = click(f("price", "int", optional=True), f("city", "str"), f("size", "int"), version=2)
    for number in range(5):
        world.send(before, user_id=1, price=number, city="a", size=10)
    assert world.online(project(before, True), world.store)[0] == {
        "user:sizes": 3, "user:size": 30, "user:paid": 3
    }  # fmt: skip
    for fields in ({}, {"price": 1}, {"price": 9}, {}):
        world.send(after, user_id=1, city="a", size=10, **fields)
    wanted = {"user:sizes": 4, "user:size": 40, "user:paid": 4}
    for store in (world.store, MemoryStore()):
        assert world.online(project(after, False), store)[0] == wanted


@pytest.mark.parametrize("at", [1, 200_000])
def test_an_event_that_comes_back_is_counted_with_what_came_meanwhile(at, monkeypatch):
    """An old gateway may still take it, or it lay in the log when its definition went."""
    monkeypatch.setattr(engine_module, "BUILD_BATCH", at)
    view = EventSpec("view", 1, (f("user_id", "int"),), "user_id")
    alone = project_of(click())
    views = feature("views", "count", event="view")
    features = (*alone.views["user"].features, views)
    both = replace(
        alone,
        events={**alone.events, "view": view},
        views={"user": ViewSpec("user", (USER,), features)},
    )
    log, store = MemoryLog(), MemoryStore()

    def happen(number):
        collector = Collector(both, log, ManualClock(START + HOUR))
        for name in ("click", "view"):
            event = {"event": name, "id": f"{name}{number}", "time": START}
            event["fields"] = {"user_id": 1}
            collector.accept("web", json.dumps(event).encode())

    def fold(project):
        engine = Engine(project, log, store)
        while engine.run_once(1):
            look(OnlineReader(both, store))

    def look(reader):
        with reader.snapshot() as snapshot:
            offset, unbuilt = snapshot.mark.offset, snapshot.unbuilt(features)
            read = snapshot.read_row(features, {"user_id": 1}, snapshot.mark.time + 1).values
        seen = {"user:clicks": (offset + 1) // 2, "user:views": offset // 2}
        assert read == {name: None if name in unbuilt else n for name, n in seen.items()}
        return unbuilt

    for number, project in enumerate([both, alone, both, alone, both]):
        happen(number)
        fold(project)
        assert look(OnlineReader(both, store)) == ([] if project is both else ["user:views"])
