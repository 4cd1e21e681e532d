"""Several models behind one capability, and capabilities that ask others."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from feilun.clock import DAY, HOUR
from feilun.definitions.loading import load_project
from feilun.errors import StoreFull
from feilun.models.example_log import ExampleLog, capability_of
from feilun.models.skew import Meanings, audit_between
from feilun.ports.teams import Team
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA, SHADOW_SCHEMA
from feilun.records.split import gets_challenger
from feilun.serving.http.caller import Caller
from feilun.serving.http.exchange import Request
from feilun.serving.scoring import guarded_scorer
from feilun.testing.fakes import MemoryLog

SALT = "9f2c"
ID = [(b"x-request-id", b"order-77")]


def project():
    return load_project(Path(__file__).with_name("composed.py"))


@pytest.fixture
def shop(shop_of):
    shop = shop_of(project())
    shop.train((0, 1, 10))
    shop.train((1, 1), model="margin")
    shop.train((3,), model="demand")
    return shop


def ask(shop, path, user=1, headers=ID, **more):
    return shop.client.get(f"/api/{path}", {"user_id": user, **more}, headers=headers)


def by_id(shop, schema=PREDICTION_SCHEMA):
    """Return (record, prediction) of everything logged under a schema, by id."""
    found = [record for _, record in shop.log.read(0) if record.schema == schema]
    return {record.id: (record, decode_prediction(record.body)) for record in found}


# What is answered.


def test_other_models_and_capabilities_speak_of_the_same_rows(shop):
    reply = shop.run(ask(shop, "weigh", factor=2.0))
    # Item n was ordered n times by each of two customers.
    assert reply.json["result"] == [[n, 12 * n, 3 * n, 2 * 3 * 2 * n] for n in (5, 4, 3, 2, 1)]
    assert (reply.json["model"], reply.json["version"], reply.json["degraded"]) == ("ranker", 1, [])


def test_where_keeps_the_other_scores_of_what_it_keeps(shop):
    reply = shop.run(ask(shop, "dear"))
    assert sorted(reply.json["result"]) == [6, 9, 12, 15]


def test_what_runs_out_is_not_pushed(shop):
    """Of item n there are 2n; half of that times the factor is expected to be sold."""
    shop.train((0.5,), model="demand")
    all_left, none_left = shop.run(
        ask(shop, "picks", headers=(), factor=2.0), ask(shop, "picks", headers=(), factor=2.1)
    )
    assert (all_left.json["result"], none_left.json["result"]) == ([1, 2, 3, 4, 5], [])
    assert [p.answer for _, p in by_id(shop).values() if p.model == "margin"] == [
        [1, 2, 3, 4, 5],
        [],
    ]


def test_an_inner_answer_is_what_its_own_route_would_have_answered(shop):
    chosen = random.Random(7)
    orders = [
        (
            chosen.randrange(3, 9),
            chosen.randrange(1, 12),
            0,
            shop.clock.now() - chosen.randrange(1, 20 * DAY),
        )
        for _ in range(80)
    ]
    shop.fold(orders)
    users = range(1, 9)

    async def both(user):
        outer = await ask(shop, "weigh", user, [(b"x-request-id", f"r{user}".encode())])
        _, logged = by_id(shop)[f"r{user}/inventory"]
        body = {"item_id": list(logged.items)}
        return outer, await shop.client.post("/api/inventory", body)

    for user, (outer, alone) in zip(users, shop.run(*map(both, users)), strict=True):
        rows = {row[0]: row[3] for row in outer.json["result"]}
        inner, own = (by_id(shop)[id][1] for id in (f"r{user}/inventory", alone.json["request_id"]))
        assert [rows[each] for each in inner.items] == alone.json["result"]
        same = ("capability", "model", "version", "as_of", "folded_offset", "items", "columns",
                "vectors", "scores", "answer", "degraded", "arm", "keys")  # fmt: skip
        assert [getattr(inner, each) for each in same] == [getattr(own, each) for each in same]


def test_what_is_asked_may_ask_and_explore(shop):
    reply = shop.run(ask(shop, "page"))
    logged = {id: prediction for id, (_, prediction) in by_id(shop).items()}
    assert logged.keys() == {
        "order-77", "order-77/weigh", "order-77/weigh:margin", "order-77/weigh/inventory",
        "order-77/habit",
    }  # fmt: skip
    assert [row[0] for row in reply.json["result"]["weigh"]] == logged["order-77/weigh"].items[::-1]
    habit = logged["order-77/habit"]
    assert habit.answer == reply.json["result"]["habit"]
    assert (habit.exploration, len(habit.item_propensities)) == ("epsilon(1.0, top=3)", 16)
    assert habit.list_propensity == pytest.approx(1 / 6)


# What is logged.


def test_every_part_is_logged_as_a_prediction_of_its_own(shop):
    shop.run(ask(shop, "weigh"))
    found = by_id(shop)
    assert list(found) == ["order-77", "order-77:margin", "order-77/inventory"]
    assert {record.subject for record, _ in found.values()} == {"user_id=1"}
    assert len({(p.as_of, p.folded_offset) for _, p in found.values()}) == 1
    told = [(p.capability, p.model, p.version, p.keys, p.request_id) for _, p in found.values()]
    assert told == [
        ("weigh", "ranker", 1, {"user_id": 1}, "order-77"),
        ("weigh", "margin", 1, {"user_id": 1}, "order-77:margin"),
        ("inventory", "demand", 1, {}, "order-77/inventory"),
    ]
    _, other = found["order-77:margin"]
    assert np.frombuffer(other.vectors, np.float32).reshape(5, 2).tolist() == [
        [2 * n, n] for n in range(1, 6)
    ]
    assert np.frombuffer(other.scores).tolist() == [3 * n for n in range(1, 6)]
    assert other.columns == shop.project.models["margin"].columns_digest
    assert [len(p.reply) > 0 for _, p in found.values()] == [True, False, False]


@pytest.mark.parametrize("model", ["ranker", "margin", "demand"])
def test_every_model_learns_from_it(shop, model):
    shop.run(ask(shop, "weigh"))
    folded = shop.history.end()
    shop.fold([(1, 4, 0, shop.clock.now() + HOUR), (9, 9, 0, shop.clock.now() + 3 * DAY)])
    shop.log.append([record for _, record in shop.history.read(folded)])
    log = ExampleLog(shop.project, shop.project.models[model])
    log.advance(shop.log, shop.log.end())
    examples = log.examples(shop.log)
    assert (len(examples.y), examples.left_out) == (5, 0)
    assert examples.y.sum() == 1
    assert examples.served.min() > 0


@pytest.mark.parametrize("model", ["ranker", "margin", "demand"])
def test_an_audit_computes_the_vectors_of_every_part_again(shop, model):
    shop.run(ask(shop, "weigh"), ask(shop, "weigh", 2, headers=()))
    log = MemoryLog()
    for each in (shop.history, shop.log):
        log.append([record for _, record in each.read(0)])
    meanings = Meanings(shop.project, shop.releases, shop.root)
    skew = audit_between(log, meanings, model, 0, log.end(), size=100)
    assert (skew.requests, skew.left_out) == (2, {})
    assert {(found.audited, found.mismatched) for found in skew.features.values()} == {(10, 0)}


def test_a_model_that_only_also_scores_has_rows_like_those(shop):
    assert capability_of(shop.project, shop.project.models["margin"]).name == "weigh"
    assert capability_of(shop.project, shop.project.models["demand"]).name == "inventory"


def test_a_retry_gets_the_same_and_is_logged_once(shop):
    async def later():
        shop.fold([(1, 7, 0, shop.clock.now() - HOUR)])
        shop.clock.advance(5_000_000)
        return await ask(shop, "weigh")

    first, again = shop.run(ask(shop, "weigh"), later())
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert len(by_id(shop)) == shop.log.end() == 3


def test_ids_of_a_batch_and_long_ones_have_room(shop):
    long = "a" * 64
    body = [{"user_id": 1}]
    reply, _ = shop.run(
        shop.client.post("/api/weigh/batch", body, headers=[(b"x-request-id", b"b")]),
        ask(shop, "weigh", headers=[(b"x-request-id", long.encode())]),
    )
    assert reply.json["replies"][0]["status"] == 200
    ids = list(by_id(shop))
    assert ids[:4] == ["b.0", "b.0:margin", "b.0/inventory", long]
    assert [len(id) for id in ids[4:]] == [32, 32]


def test_a_full_log_answers_nothing(shop, monkeypatch):
    def full(records):
        raise StoreFull("The log is full.")

    monkeypatch.setattr(shop.log, "append", full)
    reply = shop.run(ask(shop, "weigh"))
    assert (reply.status, reply.code) == (503, "store_full")


def test_metrics_count_every_part(shop):
    shop.run(ask(shop, "weigh"))
    lines = shop.shadows._metrics.expose().splitlines()
    counted = [line for line in lines if line.startswith("feilun_predictions_total{")]
    assert len(counted) == 3
    assert all(line.endswith(" 1") for line in counted)


def test_a_team_is_charged_for_the_answer_and_for_every_version_that_scored(shop):
    route = shop.app.routes["/api/weigh"].methods["GET"].__self__
    again = Request("GET", "/api/weigh", b"user_id=1", b"", "order-77")
    first, replayed = shop.run(route.answer(again), route.answer(again))
    assert first.used == (("ranker", 1), ("margin", 1), ("demand", 1))
    assert replayed.used == ()


def test_the_parts_of_a_team_have_its_names(shop):
    route = shop.app.routes["/api/weigh"].methods["GET"].__self__
    team = Team(1, "growth", ("weigh",), 10.0, 0)
    shop.run(
        ask(shop, "weigh"),
        route.answer(
            Request("GET", "/api/weigh", b"user_id=1", b"", "order-77", caller=Caller("k", team))
        ),
    )
    assert len(by_id(shop)) == 3
    sources = [record.source for _, record in shop.log.read(0)]
    assert sources == ["gateway"] * 3 + ["growth/gateway"] * 3


# Failures.


def fail(shop, model, fault):
    shop.train([1] * len(shop.project.models[model].columns), fault, model)


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
def test_another_model_that_fails_is_flagged_and_fatal_only_without_a_default(shop, fault):
    fail(shop, "margin", fault)
    strict, lenient = shop.run(ask(shop, "weigh", headers=()), ask(shop, "lenient", headers=()))
    assert (strict.status, strict.code) == (503, "unavailable")
    assert "margin failed" in strict.json["error"]["message"]
    assert "default" in strict.json["error"]["hint"]
    assert lenient.json["result"][0] == [-1] * 5
    assert "model_failed:margin" in lenient.json["degraded"]
    (kept,) = [p for _, p in by_id(shop).values() if p.model == "margin"]
    assert (kept.version, kept.scores, kept.degraded) == (0, b"", ["model_failed"])


def test_another_model_that_hangs_costs_a_deadline(shop, monkeypatch):
    monkeypatch.setattr(guarded_scorer, "DEADLINE_SECONDS", 0.1)
    fail(shop, "margin", "hang")
    shop.champions.refresh()
    shop.champions.get("margin").scorer._aside = True
    reply = shop.run(ask(shop, "lenient"))
    assert reply.status == 200
    assert reply.json["degraded"][0] == "model_failed:margin"


def test_a_caller_waits_no_longer_than_it_says(shop):
    fail(shop, "demand", "hang")
    shop.champions.refresh()
    shop.champions.get("demand").scorer._aside = True
    headers = [*ID, (b"request-timeout", b"0.05")]
    reply = shop.run(ask(shop, "weigh", headers=headers))
    assert (reply.status, reply.code, shop.log.end()) == (504, "too_late", 0)


def test_another_model_that_is_not_there_yet_is_flagged_and_logged(shop_of):
    shop = shop_of(project())
    shop.train((0, 1, 10))
    strict, lenient = shop.run(ask(shop, "weigh", headers=()), ask(shop, "lenient", headers=()))
    assert (strict.status, strict.code) == (503, "no_model")
    assert "no_model:margin" in lenient.json["degraded"]
    (kept,) = [p for _, p in by_id(shop).values() if p.model == "margin"]
    assert (kept.version, len(kept.vectors), kept.arm) == (0, 4 * 2 * 5, "fallback")


def test_the_fallback_of_what_is_asked_answers_and_is_flagged(shop):
    fail(shop, "demand", "raise")
    reply = shop.run(ask(shop, "weigh"))
    assert [row[3] for row in reply.json["result"]] == [2 * n for n in (5, 4, 3, 2, 1)]
    assert reply.json["degraded"] == ["asked:inventory:model_failed"]
    assert by_id(shop)["order-77/inventory"][1].degraded == ["model_failed"]


def test_what_is_asked_and_cannot_answer_is_flagged_and_fatal_only_without_a_default(shop):
    fail(shop, "demand", "raise")
    strict, lenient, refused = shop.run(
        ask(shop, "strict", headers=()),
        ask(shop, "lenient", headers=()),
        ask(shop, "lenient", headers=(), k=0),
    )
    assert (strict.status, strict.code) == (503, "unavailable")
    assert "/api/stock, which was asked, did not answer" in strict.json["error"]["message"]
    for reply in (lenient, refused):
        assert reply.json["result"] == [[3, 6, 9, 12, 15], None, "nothing"]
        assert reply.json["degraded"] == ["asked:stock:failed", "asked:faulty:failed"]
        assert b"secret" not in reply.body
    models = {p.capability for _, p in by_id(shop).values()}
    assert models == {"lenient"}


# One moment, one version of each model.


def test_a_challenger_that_fails_anywhere_gives_way_everywhere(shop):
    """The ranker answers the page, what weighs and the habit: all with one version, at one time."""
    shop.roll_out("canary", 100.0, digest=shop.bundle((0, 0, 5), "raise"))
    reply = shop.run(ask(shop, "page"))
    assert reply.json["version"] == 1
    assert reply.json["degraded"] == [
        "challenger_failed", "asked:weigh:challenger_failed", "asked:habit:challenger_failed",
    ]  # fmt: skip
    found = [p for _, p in by_id(shop).values()]
    assert {(p.version, p.arm) for p in found if p.model == "ranker"} == {(1, "challenger")}
    assert len({(p.as_of, p.folded_offset) for p in found}) == 1


def test_a_challenger_of_another_model_gives_way_too(shop):
    shop.roll_out("canary", 100.0, digest=shop.bundle((1, 1), "nan", "margin"), model="margin")
    reply = shop.run(ask(shop, "weigh"))
    assert reply.json["degraded"] == ["challenger_failed:margin"]
    assert [row[2] for row in reply.json["result"]] == [3 * n for n in (5, 4, 3, 2, 1)]
    _, logged = by_id(shop)["order-77:margin"]
    assert (logged.version, logged.arm, logged.degraded) == (1, "challenger", ["challenger_failed"])


def test_what_is_folded_or_promoted_meanwhile_changes_no_part(shop, monkeypatch):
    """While the models score, more is folded and another version takes over."""

    async def during():
        scorer = shop.champions.get("ranker").scorer
        original = scorer.score

        async def meanwhile(matrix, **more):
            shop.fold([(1, 8, 0, shop.clock.now() - HOUR)])
            shop.clock.advance(1)
            shop.train((0, 0, -9))
            await asyncio.to_thread(shop.champions.refresh)
            return await original(matrix, **more)

        monkeypatch.setattr(scorer, "score", meanwhile)
        return await ask(shop, "page")

    before, reply, after = shop.run(
        ask(shop, "page", headers=()), during(), ask(shop, "page", headers=())
    )
    assert reply.json["result"]["weigh"] == before.json["result"]["weigh"]
    found = [p for id, (_, p) in by_id(shop).items() if id.startswith("order-77")]
    assert len(found) == 5
    assert {p.version for p in found} == {1}
    assert len({(p.as_of, p.folded_offset) for p in found}) == 1
    assert after.json["version"] > 1


@pytest.mark.parametrize("user", [1, 2])
def test_every_rollout_splits_by_whom_the_request_is_about(shop, user):
    for model, width in (("margin", 2), ("demand", 1)):
        bundle = shop.bundle([7] * width, model=model)
        shop.roll_out("canary", 40.0, digest=bundle, model=model)
    shop.run(ask(shop, "weigh", user))
    challenger = gets_challenger(SALT, f"user_id={user}", 40.0)
    wanted = (9, "challenger", 0.4) if challenger else (1, "champion", 0.6)
    for id in ("order-77:margin", "order-77/inventory"):
        _, logged = by_id(shop)[id]
        assert (logged.version, logged.arm, logged.propensity) == wanted


def test_shadows_score_every_part(shop):
    for model, width in (("margin", 2), ("demand", 1)):
        bundle = shop.bundle([7] * width, model=model)
        shop.roll_out("shadow", digest=bundle, model=model)
    shop.run(ask(shop, "weigh"), shadows=2)
    found = by_id(shop, SHADOW_SCHEMA)
    assert found.keys() == {"order-77:margin", "order-77/inventory"}
    assert {(record.subject, p.version) for record, p in found.values()} == {("user_id=1", 9)}


# Without personalisation.


def test_nothing_that_is_asked_is_personalised_either(shop):
    shop.run(ask(shop, "page", personalised="false"))
    for id, (record, logged) in by_id(shop).items():
        assert (record.subject, logged.keys, logged.reply) == ("", {}, b"")
        assert logged.personalised == (id == "order-77/weigh/inventory")  # it is about nobody


def test_who_opted_out_of_what_is_asked_is_nobody_there(shop):
    shop.fold([(1, 5, 13, shop.clock.now() - HOUR)])
    reply = shop.run(ask(shop, "page"))
    assert "asked:habit:not_personalised" in reply.json["degraded"]
    found = by_id(shop)
    assert found["order-77"][1].personalised
    assert (found["order-77/habit"][1].keys, found["order-77/habit"][1].items) == ({}, [])
