"""Stream, rebuild, point in time and the oracle give the same value, whatever happens when."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.aggregation import Column, encode_key, naive
from feilun.clock import DAY
from feilun.definitions.specs import (
    EventSpec,
    FeatureSpec,
    FieldSpec,
    Project,
    ViewSpec,
)
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.ports.online_store import OnlineStore
from feilun.records.record import IMPORTED, LATE, Record
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import make_record
from feilun.testing.strategies import KINDS, moments
from feilun.testing.strategies import features as any_feature

USERS = [0, 1, -1]
CITIES = ["", "a", "北京"]
DTYPES = ("int", "float", "bool", "str", "vector")
DIM = 3
CLICK = EventSpec(
    "click",
    1,
    (
        FieldSpec("user", "int", optional=True),
        FieldSpec("city", "str", optional=True),
        FieldSpec("color", "str", optional=True),
        FieldSpec("size", "int", optional=True),
        *(
            FieldSpec(f"{dtype}_value", dtype, optional=True, dim=DIM * (dtype == "vector"))
            for dtype in DTYPES
        ),
    ),
    "user",
)
VALUES = {
    "int": st.integers(-3, 3),
    "float": st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.1, 0.2, -0.0, 1e16]),
    "bool": st.booleans(),
    "str": st.sampled_from(["a", "b", "", "京"]),
    "vector": st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=DIM, max_size=DIM),
}

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class World:
    project: Project
    features: tuple[FeatureSpec, ...]
    records: list[Record]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    drawn = [draw(any_feature(kind)) for kind in kinds]
    features = tuple(
        _feature(feature, f"f{number}", drawn[0].fold.timezone)
        for number, feature in enumerate(drawn)
    )
    size = draw(st.integers(0, 14))
    records = [
        make_record(
            str(number),
            draw(st.sampled_from([*USERS, None])),
            draw(st.sampled_from([*CITIES, None])),
            draw(st.sampled_from(["", "a", "é", None])),
            draw(st.sampled_from([-1, 0, 2**62, None])),
            *(draw(st.none() | VALUES[dtype]) for dtype in DTYPES),
            time=draw(moments(draw(st.sampled_from(features)))),
            received=2_000 * 365 * DAY,  # imported, so that no day of ids closes before it
            schema=CLICK.schema_id,
            flags=draw(st.sampled_from([IMPORTED] * 5 + [IMPORTED | LATE])),
        )
        for number in range(size)
    ]
    return World(_project(features), features, records)


def _feature(drawn: FeatureSpec, name: str, timezone: str) -> FeatureSpec:
    retention = None
    if drawn.window is not None or drawn.calendar:
        retention = drawn.window or drawn.calendar * DAY
    fold = replace(
        drawn.fold,
        field=drawn.fold.field and f"{drawn.fold.dtype}_value",
        timezone=timezone,
        retention=retention,
        dim=DIM if drawn.fold.dtype == "vector" else 0,
    )
    return replace(drawn, name=name, fold=fold)


def _project(features: tuple[FeatureSpec, ...]) -> Project:
    views = {"view": ViewSpec("view", (), features)}
    return Project("p", "UTC", {}, {"click": CLICK}, views, {}, {}, {})


def _log(records: list[Record]) -> MemoryLog:
    log = MemoryLog()
    log.append(records)
    return log


def _online(world: World, store: OnlineStore, ahead: int) -> tuple[int, int, dict[str, list[Any]]]:
    """Read every feature for every user and city; return as_of, offset and the values."""
    reader = OnlineReader(world.project, store)
    values: dict[str, list[Any]] = {feature.address: [] for feature in world.features}
    with reader.snapshot() as snapshot:
        as_of = snapshot.mark.time + ahead
        for user in USERS:
            columns = snapshot.read(world.features, {"user": user}, "city", CITIES, as_of)
            for feature in world.features:
                found = _values(columns[feature.address])
                names = [entity.name for entity in feature.fold.keys]
                assert len(found) == (len(CITIES) if "city" in names else 1)
                values[feature.address] += found * (len(CITIES) // len(found))
        return as_of, snapshot.mark.offset, values


def _past(world: World, as_of: int, known: int) -> dict[str, list[Any]]:
    frames = event_frames(world.project, enumerate(world.records))
    size = len(USERS) * len(CITIES)
    spine = Spine(
        {"user": [u for u in USERS for _ in CITIES], "city": CITIES * len(USERS)},
        np.full(size, as_of),
        np.full(size, known),
    )
    columns = point_in_time(world.project, world.features, spine, frames)
    return {address: _values(column) for address, column in columns.items()}


def _oracle(world: World, as_of: int, known: int) -> dict[str, list[Any]]:
    frame = event_frames(world.project, enumerate(world.records)).get("click")
    if frame is None:
        return {}
    return {
        feature.address: [
            naive(
                feature,
                frame,
                encode_key(
                    feature.fold.keys, [{"user": u, "city": c}[k.name] for k in feature.fold.keys]
                ),
                as_of,
                known,
            )
            for u in USERS
            for c in CITIES
        ]
        for feature in world.features
    }


def _values(column: Column) -> list[Any]:
    return [
        value if present else None
        for value, present in zip(column.values.tolist(), column.present.tolist(), strict=True)
    ]


def _check(world: World, found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    """Equal to the bit, but for floats that are added: those within the law's bound."""
    sizes = _sizes(world.records)
    bounds = {
        "var": 1e-9 * sum(x * x for x in sizes),
        "std": 1e-9 * math.sqrt(sum(x * x for x in sizes)),
    }
    assert found.keys() == expected.keys()
    for feature in world.features:
        bound = bounds.get(feature.fold.kind, 1e-9 * sum(sizes))
        added = feature.fold.kind in ("sum", "mean", "decayed", "var", "std")
        for x, y in zip(found[feature.address], expected[feature.address], strict=True):
            if None in (x, y):
                assert x is y
            elif added:
                assert np.allclose(x, y, rtol=1e-9, atol=bound)
            elif feature.fold.kind == "quantile":  # the oracle does not round
                size = min(max(y, -(2.0**64)), 2.0**64)  # beyond it they count as it
                assert math.isclose(x, size, rel_tol=1 / 128, abs_tol=2.0**-30)
            else:
                assert x == y


def _sizes(records: list[Record]) -> list[float]:
    """The sizes of all numbers in the records."""
    bodies = [msgspec.msgpack.decode(record.body) for record in records]
    fields = [field.name for field in CLICK.fields]
    numbers = [[body[fields.index(f"{dtype}_value")] for body in bodies]
               for dtype in ("int", "float", "bool")]  # fmt: skip
    vectors = [body[fields.index("vector_value")] or [] for body in bodies]
    return [abs(x or 0.0) for column in [*numbers, *vectors] for x in column]


@few
@given(worlds(), st.data())
def test_stream_is_point_in_time_is_rebuild_is_the_oracle(world: World, data: st.DataObject):
    """Law 5 at every commit, with the future already in the log when it is checked."""
    log, store = MemoryLog(), MemoryStore()
    engine = Engine(world.project, log, store)
    engine.run_once()  # a new platform: it is read while it folds, unlike one that catches up
    seen = []
    position = 0
    while position < len(world.records):
        step = data.draw(st.integers(1, 6))
        log.append(world.records[position : position + step])
        position += step
        if data.draw(st.booleans()):  # a restart
            engine = Engine(world.project, log, store)
        while engine.run_once(data.draw(st.integers(1, 5))):
            if data.draw(st.booleans()):
                seen.append(_online(world, store, data.draw(st.sampled_from([1, 2, DAY]))))
    engine.run_once()
    seen.append(_online(world, store, 1))
    for as_of, offset, values in seen:
        _check(world, values, _past(world, as_of, offset))
        if oracle := _oracle(world, as_of, offset):
            _check(world, values, oracle)
    rebuilt = MemoryStore()
    assert Engine(world.project, log, rebuilt).rebuild() == len(world.records)
    as_of, offset, values = seen[-1]
    again = _online(world, rebuilt, 1)
    assert again[:2] == (as_of, offset)
    _check(world, again[2], values)


@few
@given(worlds(), st.randoms(use_true_random=False))
def test_no_look_ahead(world: World, random: Any):
    """What comes later in the log, or later in time, changes no value of before."""
    records = world.records
    cut = random.randint(0, len(records))
    as_of = random.choice([record.time for record in records] or [0]) + random.choice([0, 1])
    future = records[cut:]
    random.shuffle(future)
    other = [
        record if record.time < as_of else _at(record, as_of + random.randint(0, DAY))
        for record in records[:cut]
    ] + [_at(record, record.time - random.randint(0, DAY)) for record in future]
    changed = World(world.project, world.features, other)
    assert _past(changed, as_of, cut) == _past(world, as_of, cut)


def _at(record: Record, time: int) -> Record:
    return msgspec.structs.replace(record, time=time)


@few
@given(worlds(), st.integers(1, 4))
def test_expiry_changes_no_read(world: World, limit: int):
    keeping = tuple(replace(f, fold=replace(f.fold, retention=None)) for f in world.features)
    for_ever = World(_project(keeping), keeping, world.records)
    results = []
    for each in (world, for_ever):
        log, store = _log(each.records), MemoryStore()
        engine = Engine(each.project, log, store)
        while engine.run_once(limit):
            pass
        results.append(_online(each, store, 1))
    assert results[0] == results[1]
