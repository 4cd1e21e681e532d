"""A text classifier: each class is a row, alike in serving, shadow, outcomes and audit."""

import asyncio
import dataclasses
import types
from typing import TypedDict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feilun as fl
from feilun.aggregation.frames import Column
from feilun.clock import DAY, HOUR
from feilun.definitions.compiler import compile_project
from feilun.definitions.specs import ClassSpec, EncodingSpec, RequestSpec
from feilun.errors import Unavailable
from feilun.features.encodings import class_column, row_columns
from feilun.models.bundle import columns_of, read_bundle, resolve_columns, scorer_file
from feilun.models.example_log import ExampleLog
from feilun.models.pinned import live_encoders
from feilun.models.skew import Meanings, audit_between
from feilun.records.record import RECOMPUTE, SHADOW_SCHEMA
from feilun.testing.encoder_fakes import HashEncoders
from feilun.testing.records import make_record

NOW = 20_000 * DAY + 17 * HOUR
OLD, NEW = "a" * 64, "b" * 64
CLASSES = ("退款", "物流", "地址", "hours")
message, intent = fl.Entity("message_id", str), fl.Entity("intent", str)
sentence = fl.request.param("sentence", str)


class Handled(fl.Event):
    message_id: fl.Field[str]
    intent: fl.Field[str]


class Scored(fl.Event):
    message_id: fl.Field[str]


class Usual(fl.FeatureView):
    intents = fl.top(Handled.intent, n=5)


intents = fl.adopted(
    "intents",
    features=[sentence],
    classes=intent,
    label=fl.outcome(Handled, within="1d"),
    metric="precision@1",
)
urgency = fl.adopted(
    "urgency", features=[sentence], label=fl.outcome(Scored, within="1d"), metric="auc"
)


class Guess(TypedDict):
    intent: str
    share: float


@fl.capability("/api/intent", model=intents, fallback=Usual.intents)
def understand(scored: fl.Scored, message_id: str, sentence: str) -> list[Guess]:
    share = dict(zip(scored.items, scored.scores.tolist(), strict=True))
    return [{"intent": each, "share": share[each]} for each in scored.top(2)]


@fl.capability("/api/of", model=intents)
def of_some(scored: fl.Scored, message_id: str, sentence: str, intent: list[str]) -> list[float]:
    return scored.scores.tolist()


@fl.capability("/api/urgency", model=urgency, item=message)
def urgent(scored: fl.Scored, message_id: str, sentence: str) -> float:
    return float(scored.scores[0])


PROJECT = compile_project(
    types.SimpleNamespace(understand=understand, of_some=of_some, urgent=urgent), name="desk"
)


def column(digest=OLD, classes=CLASSES, item="intent", name="intents"):
    text = RequestSpec("sentence", "str")
    return ClassSpec(EncodingSpec(name, digest, len(CLASSES), text), classes, item)


def adopted(name="intents", **more):
    return bundled(PROJECT.models[name], column(name=name, **more))


def bundled(model, spec):
    columns = columns_of(dataclasses.replace(model, columns=(spec,)), {})
    said = {"digest": spec.encoding.digest, "output": "softmax", "classes": spec.classes}
    data = msgspec.json.encode(said)
    return {"columns": columns, "data": data, "scorer": scorer_file(data, "text-classifier/1")}


@pytest.fixture
def world(world_of):
    handled = PROJECT.events["handled"].schema_id
    records = [
        make_record(f"h{number}", f"m{number}", name, time=NOW - HOUR, schema=handled)
        for number, name in enumerate(["other", "hours", "other"])
    ]
    return world_of(PROJECT, records, now=NOW, encoders=HashEncoders(len(CLASSES)))


def ask(world, text="我要退款", id="m-1", path="/api/intent", **more):
    return world.client.post(path, {"message_id": id, "sentence": text} | more)


def test_the_classes_are_the_rows(world):
    world.release("intents", **adopted())
    (reply,) = world.run(ask(world))
    vector = world.encoders.vector(OLD, "我要退款")
    best = np.argsort(-vector)[:2]
    assert [each["intent"] for each in reply.json["result"]] == [CLASSES[at] for at in best]
    shares = [each["share"] for each in reply.json["result"]]
    assert shares == pytest.approx([float(vector[at]) for at in best])
    assert (reply.json["version"], reply.json["degraded"]) == (1, [])
    (logged,) = world.predictions()
    assert (logged.item, logged.items, logged.keys) == (
        "intent",
        list(CLASSES),
        {"message_id": "m-1"},
    )
    assert logged.answer == [CLASSES[at] for at in best]
    np.testing.assert_array_equal(np.frombuffer(logged.vectors, np.float32), vector)
    np.testing.assert_array_equal(np.frombuffer(logged.scores, np.float64), vector)
    assert (logged.encoders, logged.request) == ({"intents": OLD}, {"sentence": "我要退款"})


def test_a_request_may_ask_about_some_classes(world):
    world.release("intents", **adopted())
    (reply,) = world.run(ask(world, path="/api/of", intent=["hours", "none of them", "退款"]))
    vector = world.encoders.vector(OLD, "我要退款")
    assert reply.json["result"] == pytest.approx([float(vector[3]), 0.0, float(vector[0])])


def test_a_number_is_the_score_of_the_one_row(world):
    world.encoders.dim = 1
    encoding = dataclasses.replace(column(item="", name="urgency").encoding, dim=1)
    spec = ClassSpec(encoding, ("urgency",), "")
    world.release("urgency", **bundled(PROJECT.models["urgency"], spec))
    (reply,) = world.run(ask(world, path="/api/urgency"))
    assert reply.json["result"] == pytest.approx(float(world.encoders.vector(OLD, "我要退款")[0]))


def test_before_the_first_version_the_fallback_names_classes(world):
    (reply,) = world.run(ask(world))
    assert [each["intent"] for each in reply.json["result"]] == ["other", "hours"]
    assert reply.json["degraded"] == ["no_model"]


def test_where_the_classifier_does_not_answer_the_fallback_does(world):
    world.release("intents", **adopted())
    world.encoders.error = Unavailable("It is not there.")
    (reply,) = world.run(ask(world))
    assert reply.status == 200
    assert reply.json["result"][0]["intent"] == "hours"  # of the classes, what is usual
    assert {"encoder_failed", "model_failed"} <= set(reply.json["degraded"])
    assert [logged.columns for logged in world.predictions()] == [RECOMPUTE]


def test_a_shadow_scores_the_classes_of_the_answer(world):
    """Also one that knows others: those are none of the answer's, and theirs are 0 to it."""
    world.release("intents", **adopted())
    other = adopted(digest=NEW, classes=("hours", "new", "退款", "物流"))
    world.releases.append_rollout(
        "intents", "shadow", 2, world.bundle("intents", **other), percent=0.0, salt="s",
        release=1, after=0, offset=0, at=NOW, by="test",
    )  # fmt: skip

    async def asked():
        await ask(world)
        for _ in range(1_000):
            if world.predictions(SHADOW_SCHEMA):
                return
            await asyncio.sleep(0.005)

    world.run(asked())
    (shadow,) = world.predictions(SHADOW_SCHEMA)
    vector = world.encoders.vector(NEW, "我要退款")
    expected = [vector[2], vector[3], 0, vector[0]]
    np.testing.assert_array_equal(np.frombuffer(shadow.scores, np.float64), expected)
    assert (shadow.items, shadow.encoders) == (list(CLASSES), {"intents": NEW})


def test_outcomes_are_joined_by_message_and_class(world):
    world.release("intents", **adopted())
    world.run(ask(world, id="m-8"), ask(world, "hello", id="m-9"))
    handled = PROJECT.events["handled"].schema_id
    records = [("x", "m-9", "地址", HOUR), ("y", "m-7", "退款", HOUR), ("z", "-", "-", 2 * DAY)]
    world.log.append(
        [
            make_record(id, message, name, time=NOW + later, schema=handled)
            for id, message, name, later in records
        ]
    )
    log = ExampleLog(PROJECT, PROJECT.models["intents"], world.encoders)
    log.advance(world.log, world.log.end())
    examples = log.examples(world.log)
    served, labels = examples.served.reshape(2, 4), examples.y.reshape(2, 4)
    for text, expected in {"我要退款": [0, 0, 0, 0], "hello": [0, 0, 1, 0]}.items():
        (row,) = np.flatnonzero((served == world.encoders.vector(OLD, text)).all(axis=1))
        assert labels[row].tolist() == expected


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_audit_classifies_again(world, wrong):
    world.release("intents", **adopted())
    world.run(ask(world), ask(world, "hello", id="m-2"))
    again = HashEncoders(len(CLASSES))
    if wrong:
        again.vector = lambda _digest, text: world.encoders.vector(NEW, text)
    meanings = Meanings(PROJECT, world.releases, world.root, again)
    found = audit_between(world.log, meanings, "intents", 0, world.log.end(), size=9)
    (feature,) = found.features.items()
    assert feature[0] == "intents(request:sentence)[intent]"
    assert (found.requests, feature[1].mismatched) == (2, wrong * 8)


def test_a_bundle_says_what_it_was(world):
    digest = world.bundle("intents", **adopted())
    bundle, _ = read_bundle(world.root, digest)
    (found,) = resolve_columns(bundle.columns, PROJECT, bundle.folds)
    assert found == column()
    assert bundle.categories == {}


def test_what_live_versions_classify_by_is_known(world):
    assert live_encoders(PROJECT, world.releases, world.root) == {}
    world.release("intents", **adopted())
    world.release("intents", version=2, **adopted(digest=NEW))
    found = live_encoders(PROJECT, world.releases, world.root)
    assert found == {NEW: "intents"}
    other = world.bundle("intents", **adopted(digest="c" * 64))
    world.releases.append_rollout(
        "intents", "shadow", 3, other, percent=0.0, salt="s", release=2, after=0, offset=0, at=NOW,
        by="test",
    )  # fmt: skip
    found = live_encoders(PROJECT, world.releases, world.root)
    assert found == {NEW: "intents", "c" * 64: "intents"}


@given(st.lists(st.sampled_from([*CLASSES, "else", ""]), max_size=20), st.booleans())
def test_each_row_has_the_number_of_its_class(items, alike):
    spec = column()
    rows = 1 if alike else len(items)
    numbers = np.random.default_rng(0).random((rows, len(CLASSES))).astype(np.float32)
    columns = {spec.encoding.address: Column(numbers, np.arange(rows) % 2 == 0)}
    found = class_column(spec, columns | row_columns([spec], items))
    assert len(found.values) == len(items)
    for row, item in enumerate(items):
        place = 0 if alike else row
        known = item in CLASSES
        assert found.values[row] == (numbers[place, CLASSES.index(item)] if known else 0)
        assert found.present[row] == (place % 2 == 0)
