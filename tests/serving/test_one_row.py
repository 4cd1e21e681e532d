"""Capabilities whose requests are about one row: somebody, or what the request describes."""

import types

import numpy as np
import pytest

import feilun as fl
from feilun.clock import DAY, HOUR
from feilun.definitions.compiler import compile_project
from feilun.errors import DefinitionError
from feilun.models.example_log import ExampleLog
from feilun.records.codec import decode_prediction
from feilun.testing.records import make_record

NOW = 20_000 * DAY + 17 * HOUR
user, payment = fl.Entity("user_id", int), fl.Entity("payment_id", str)


class Click(fl.Event):
    user_id: fl.Field[int]


class Chargeback(fl.Event):
    payment_id: fl.Field[str]


class Person(fl.FeatureView, entity=user):
    clicks = fl.count(Click, window="7d")
    last = fl.last(Click.user_id)


@fl.model(features=[Person], label=fl.outcome(Click, within="1h"), metric="auc")
def churn(data: fl.Dataset) -> object: ...


@fl.model(
    features=[fl.request.param("amount", float), fl.request.param("country", str)],
    label=fl.outcome(Chargeback, within="30d"),
    metric="auc",
)
def fraud(data: fl.Dataset) -> object: ...


@fl.capability("/api/churn", model=churn)
def will_churn(scored: fl.Scored, user_id: int) -> float:
    return float(scored.scores[0]) if scored[Person.clicks][0] >= 0 else -1.0


@fl.capability("/api/fraud", model=fraud, item=payment)
def is_fraud(scored: fl.Scored, payment_id: str, amount: float, country: str = "CN") -> float:
    return float(scored.scores[0])


PROJECT = compile_project(types.SimpleNamespace(**globals()), name="shop")


@pytest.fixture
def world(world_of):
    schema = PROJECT.events["click"].schema_id
    clicks = [make_record(f"c{n}", 7, time=NOW - HOUR + n, schema=schema) for n in range(3)]
    found = world_of(PROJECT, clicks, now=NOW)
    found.release("churn")
    found.release("fraud", categories={"request:country": ("CN", "DE")})
    return found


def test_what_the_rows_differ_by_is_found_or_said():
    items = {spec.name: spec.item for spec in PROJECT.capabilities.values()}
    assert items == {"churn": "user_id", "fraud": "payment_id"}


def test_somebody_is_scored_by_what_is_known_of_them(world):
    get = world.client.get
    known, stranger = world.run(
        get("/api/churn", {"user_id": 7}), get("/api/churn", {"user_id": 8})
    )
    assert (known.json["result"], known.json["degraded"]) == (3.0 + 7.0, [])
    assert stranger.json["result"] == 0.0
    assert stranger.json["degraded"] == ["missing:person:last"]
    record, _ = world.logged()
    prediction = decode_prediction(record.body)
    assert record.subject == "user_id=7"  # erasure finds it
    assert (prediction.item, prediction.items, prediction.answer) == ("user_id", [7], [7])
    assert np.frombuffer(prediction.vectors, np.float32).tolist() == [3.0, 7.0]


def test_what_the_request_describes_needs_no_store(world):
    post = world.client.post
    ask = {"payment_id": "p-1", "amount": 12.5, "country": "DE"}
    found, other = world.run(
        post("/api/fraud", ask), post("/api/fraud", {**ask, "country": "FR", "payment_id": "p-2"})
    )
    assert found.json["result"] == 12.5 + 1
    assert other.json["result"] == 12.5
    assert other.json["degraded"] == []  # it has a value, though the model knows no code of it
    prediction = world.predictions()[0]
    assert (prediction.item, prediction.items) == ("payment_id", ["p-1"])
    assert prediction.request == {"amount": 12.5, "country": "DE"}


def test_somebody_who_is_not_to_be_known_is_nobody(world):
    (reply,) = world.run(world.client.get("/api/churn", {"user_id": 7, "personalised": "false"}))
    assert reply.json["result"] == 0.0
    assert "not_personalised" in reply.json["degraded"]
    (record,) = world.logged()
    prediction = decode_prediction(record.body)
    assert record.subject == ""
    assert 7 not in [*prediction.items, *prediction.answer, *prediction.keys.values()]
    assert np.isnan(np.frombuffer(prediction.vectors, np.float32)).all()


def test_an_outcome_that_does_not_name_the_row_is_refused():
    @fl.capability("/api/bad", model=churn, item=payment)
    def bad(scored: fl.Scored, user_id: int, payment_id: str) -> float: ...

    with pytest.raises(DefinitionError, match="payment_id"):
        compile_project(types.SimpleNamespace(churn=churn, bad=bad, Click=Click), name="shop")


def test_the_next_version_learns_from_what_came_of_each_row(world):
    get = world.client.get
    world.run(get("/api/churn", {"user_id": 7}), get("/api/churn", {"user_id": 8}))
    schema = PROJECT.events["click"].schema_id
    world.log.append([make_record("later", 8, time=NOW + 5, schema=schema)])
    world.log.append([make_record("end", 9, time=NOW + 2 * HOUR, schema=schema)])
    examples = ExampleLog(PROJECT, PROJECT.models["churn"])
    examples.advance(world.log, world.log.end())
    learned = examples.examples(world.log)
    assert learned.groups.tolist() == [1, 1]
    seen = np.nan_to_num(learned.x).tolist()  # those of one moment are in the order of their ids
    assert sorted(zip(seen, learned.y.tolist(), strict=True)) == [
        ([0.0, 0.0], 1.0),
        ([3.0, 7.0], 0.0),
    ]
