"""Vectors as the gateway logs them, computed again: they agree; what is tampered with shows."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from feilun.clock import DAY, HOUR, MINUTE
from feilun.definitions.specs import (
    ConditionSpec,
    EntitySpec,
    EventSpec,
    ExpressionSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    ModelSpec,
    OutcomeSpec,
    Project,
    RequestSpec,
    ViewSpec,
)
from feilun.features.engine import Engine
from feilun.features.expressions import complete, request_columns
from feilun.features.online import OnlineReader
from feilun.features.vectors import assemble
from feilun.models.bundle import Bundle, columns_of, scorer_file, write_bundle
from feilun.models.skew import Audit, Meanings, Sample, audit_between, compare, is_exact
from feilun.ports.skew_store import FeatureSkew, ModelSkew
from feilun.records.codec import decode_prediction, encode_prediction
from feilun.records.erasure import Erasures
from feilun.records.record import PREDICTION_SCHEMA, Prediction
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.platform_fakes import InMemoryReleases, InMemoryTurns
from feilun.testing.records import START, make_record

USER, ITEM = EntitySpec("user_id", "int"), EntitySpec("item_id", "int")
CLICK = EventSpec(
    "click",
    1,
    (
        FieldSpec("user_id", "int"),
        FieldSpec("item_id", "int"),
        FieldSpec("price", "float"),
        FieldSpec("city", "str"),
    ),
    "user_id",
)
CITIES = ("北京", "上海", "Wien")


def feature(name, kind, keys, of=None, dtype="int", window=None, n=1, **fold):
    spec = FoldSpec(
        kind, "click", of, dtype, keys, HOUR if window else 0, "UTC", retention=window, **fold
    )
    return FeatureSpec("view", name, spec, window, 0, dtype, False, n, None, None)


ORDERS = feature("orders", "count", (USER,), window=DAY)
SPENT = feature("spent", "sum", (USER,), "price", "float")
CITY = feature("city", "last", (USER,), "city", "str")
PAIR = feature("pair", "count", (USER, ITEM))
DEAR = feature("dear", "count", (ITEM,), window=2 * DAY, where=ConditionSpec(">", "price", 50.0))
ALL = feature("all", "count", (), window=DAY)
SHARE = ExpressionSpec("/", SPENT, ORDERS, "view", "share")
COUNTS = ExpressionSpec("-", ORDERS, PAIR)
HOUR_OF = RequestSpec("hour", "int", "Asia/Shanghai")
DEVICE = RequestSpec("device", "str")
COLUMNS = (ORDERS, SPENT, CITY, PAIR, DEAR, ALL, SHARE, COUNTS, HOUR_OF, DEVICE)
LABEL = OutcomeSpec("click", 10 * MINUTE, "happened")
MODEL = ModelSpec("ranker", COLUMNS, LABEL, "auc", print, "c0de")
FEATURES = tuple(c for c in COLUMNS if isinstance(c, FeatureSpec))
PROJECT = Project(
    "shop",
    "UTC",
    {"user_id": USER, "item_id": ITEM},
    {"click": CLICK},
    {"view": ViewSpec("view", (), FEATURES, expressions=(SHARE,))},
    {"ranker": MODEL},
    {},
    {},
)
CATEGORIES = {"view:city": CITIES, "request:device": ("app", "web")}


class World:
    """A platform in memory that answers requests as the gateway does."""

    def __init__(self, folder, project=PROJECT):
        self.project, self.folder = project, folder
        self.log, self.store = MemoryLog(), MemoryStore()
        self.releases = InMemoryReleases(InMemoryTurns())
        self.engine = Engine(project, self.log, self.store)
        self.reader = OnlineReader(project, self.store)
        self.rng = np.random.default_rng(3)
        self.clock, self.number = START, 0
        self.release()

    def release(self, version=1):
        data = b"any"
        bundle = Bundle(
            "ranker", columns_of(MODEL, CATEGORIES), "item_id", scorer_file(data), "auc",
            {"version": version}, MODEL.definition_digest,
        )  # fmt: skip
        digest = write_bundle(self.folder, bundle, data)
        self.releases.append(
            "ranker", version, digest, action="promote", offset=0, at=START, turn=None, by="test"
        )

    def click(self, count, delay=2 * HOUR):
        """Let things happen, some of them out of order, and fold them."""
        for _ in range(count):
            self.clock += MINUTE
            self.number += 1
            city = CITIES[self.rng.integers(3)]
            values = (*self.rng.integers(1, 5, 2).tolist(), round(self.rng.uniform(-99, 99), 2))
            time = self.clock - int(self.rng.integers(delay))
            record = make_record(
                f"c{self.number}", *values, city, time=time, received=self.clock,
                schema=CLICK.schema_id,
            )  # fmt: skip
            self.log.append([record])
        while self.engine.run_once():
            pass

    def ask(self, user=1, version=1, **changes):
        """Answer a request and log it."""
        self.clock += MINUTE
        self.number += 1
        items, asked = [1, 2, 3, 4], {"device": "web"}
        with self.reader.snapshot() as snapshot:
            as_of = max(self.clock, snapshot.mark.time + 1)
            read = snapshot.read(MODEL.features, {"user_id": user}, "item_id", items, as_of)
            known = snapshot.mark.offset
        said = request_columns(MODEL.request, [as_of], [asked])
        columns = complete(MODEL.columns, {**read, **said})
        matrix, _ = assemble(MODEL.columns, columns, len(items), CATEGORIES)
        prediction = Prediction(
            capability="recommend", model="ranker", version=version, as_of=as_of,
            folded_offset=known, keys={"user_id": user}, item="item_id", items=items,
            columns=MODEL.columns_digest, vectors=matrix.tobytes(), scores=b"", answer=items,
            degraded=[], request_id=f"r{self.number}", request=asked,
        )  # fmt: skip
        prediction = msgspec.structs.replace(prediction, **changes)
        record = make_record(
            f"r{self.number}", time=as_of, source="gateway", schema=PREDICTION_SCHEMA
        )
        body = encode_prediction(prediction)
        self.log.append([msgspec.structs.replace(record, body=body)])
        return matrix

    def live(self, rounds=8):
        for _ in range(rounds):
            self.click(12)
            self.ask(int(self.rng.integers(1, 6)))

    def meanings(self, project=None):
        return Meanings(project or self.project, self.releases, self.folder)

    def audit(self, project=None, start=0, size=100):
        meanings = self.meanings(project)
        return audit_between(self.log, meanings, "ranker", start, self.log.end(), size=size)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def mismatched(skew):
    return {a: f.mismatched for a, f in skew.features.items() if f.mismatched}


def test_what_was_served_is_what_training_computes(world):
    world.live()
    world.ask(user=99)  # somebody new: NaN is NaN
    skew = world.audit()
    assert (skew.requests, skew.left_out, mismatched(skew)) == (9, {}, {})
    assert set(skew.features) == {column.address for column in COLUMNS}
    assert {found.audited for found in skew.features.values()} == {36}


def test_events_that_came_after_an_answer_do_not_count(world):
    world.click(20)
    world.ask()
    world.click(30, delay=DAY)  # many of them happened before it
    assert mismatched(world.audit()) == {}


@pytest.mark.parametrize("place", range(len(COLUMNS)))
def test_a_vector_that_was_tampered_with_shows_in_its_feature_alone(world, place):
    world.live(2)
    with world.reader.snapshot() as snapshot:
        matrix = world.ask(2)
        assert snapshot.mark.offset
    wrong = matrix.copy()
    wrong[1, place] = 12_345.5
    world.ask(2, vectors=wrong.tobytes(), as_of=_last(world).as_of)
    assert mismatched(world.audit()) == {COLUMNS[place].address: 1}


def _last(world):
    return decode_prediction(world.log.read(world.log.end() - 1)[0][1].body)


def test_a_feature_that_is_computed_wrongly_shows(world, monkeypatch):
    """The engine folds one event twice, as a faulty store or a lost commit might make it."""
    world.live(3)
    record = next(r for _, r in world.log.read(0) if r.schema == CLICK.schema_id)
    user = msgspec.msgpack.decode(record.body)[0]
    ghost = MemoryLog()
    ghost.append([r for _, r in world.log.read(0)])
    ghost.append([msgspec.structs.replace(record, id="ghost")])
    store = MemoryStore()
    engine = Engine(PROJECT, ghost, store)
    while engine.run_once():
        pass
    world.reader = OnlineReader(PROJECT, store)
    world.ask(user, folded_offset=world.log.end())
    found = mismatched(world.audit())
    assert found["view:pair"] == 1  # one item of four
    assert found["view:orders"] == found["view:spent"] == found["view:share"] == 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"columns": "recompute"}, "unbuilt"),
        ({"columns": "another meaning"}, "changed"),
        ({"version": 7}, "changed"),
        ({"vectors": b"\0" * 12}, "unreadable"),
        ({"keys": {}}, "changed"),
    ],
)
def test_what_cannot_be_compared_is_left_out_and_counted(world, changes, why):
    world.click(5)
    world.ask(**changes)
    world.ask()
    skew = world.audit()
    assert (skew.requests, skew.left_out, mismatched(skew)) == (1, {why: 1}, {})


def test_a_definition_that_is_gone_is_left_out(world):
    world.live(2)
    view = replace(PROJECT.views["view"], features=FEATURES[1:], expressions=())
    now = replace(PROJECT, views={"view": view})
    assert world.audit(now).left_out == {"changed": 2}


def test_what_was_served_before_an_erasure_is_left_out(world):
    world.live(2)
    moment = world.clock + 1
    world.log.erase(Erasures.begun().adding(["user_id=1"], moment))
    world.engine.rebuild()
    world.clock = moment
    world.live(2)
    skew = world.audit()
    assert (skew.requests, skew.left_out, mismatched(skew)) == (2, {"erased": 2}, {})


def test_a_sample_is_chosen_by_request_ids_alone(world):
    world.live(12)
    predictions = [
        decode_prediction(r.body) for _, r in world.log.read(0) if r.schema == PREDICTION_SCHEMA
    ]
    one, other = Sample(5), Sample(5)
    one.add(predictions)
    for prediction in reversed(predictions):
        other.add([prediction])
    chosen = {p.request_id for p in one.predictions()}
    assert len(chosen) == 5
    assert chosen == {p.request_id for p in other.predictions()}
    assert world.audit(size=5).requests == 5
    assert world.audit() == world.audit()


def test_a_range_of_the_log_is_audited_alone(world):
    world.live(3)
    start = world.log.end()
    world.live(2)
    assert world.audit(start=start).requests == 2


def test_the_log_is_read_a_part_at_a_time(world):
    world.live(4)
    chosen = [
        decode_prediction(r.body) for _, r in world.log.read(0) if r.schema == PREDICTION_SCHEMA
    ]
    audit = Audit(world.log, world.meanings(), chosen)
    steps = 1
    while audit.step(7):
        steps += 1
    assert steps > 5
    assert audit.result()["ranker"] == world.audit()


def test_sums_of_floats_may_differ_in_the_last_digits_and_counts_may_not():
    model = replace(MODEL, columns=(ORDERS, SPENT, SHARE))
    logged = np.array([[3, 1e6, 0.1], [3, 1e-11, np.nan], [3, 5, 6]], np.float32)
    again = np.array([[3, 1e6 + 0.5, 0.1], [3, 0, np.nan], [3, 5, 6]], np.float32)
    assert {f.mismatched for f in compare(model, logged, again).values()} == {0}
    again[2] = [np.nextafter(np.float32(3), np.float32(4)), 5.001, np.nan]
    assert [f.mismatched for f in compare(model, logged, again).values()] == [1, 1, 1]
    assert [is_exact(c) for c in COLUMNS] == [
        True, False, True, True, True, True, False, True, True, True,
    ]  # fmt: skip


def test_infinite_values_are_compared_too():
    model = replace(MODEL, columns=(SPENT,))
    big = np.array([[np.inf], [-np.inf], [1]], np.float32)
    assert compare(model, big, big)["view:spent"] == FeatureSkew(3, 0)
    assert compare(model, big, -big)["view:spent"] == FeatureSkew(3, 3)


def test_without_predictions_there_is_nothing_to_say(world):
    world.click(5)
    assert world.audit() == ModelSkew()
