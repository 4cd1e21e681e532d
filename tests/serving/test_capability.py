"""Request to reply: candidates, features, scores, the function, the logged prediction."""

import json
import time

import numpy as np
import pytest

from feilun.errors import StoreFull
from feilun.serving.scoring import guarded_scorer

ID = [(b"x-request-id", b"order-77")]


def test_a_model_scores_and_the_reply_says_from_what(shop):
    shop.train((0, 0, -1))
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1, "k": 3}, headers=ID))
    assert reply.status == 200
    assert reply.json == {
        "result": [1, 2, 3],
        "request_id": "order-77",
        "model": "ranker",
        "version": 1,
        "as_of": shop.clock.now(),
        "folded_offset": 30,
        "degraded": [],
    }


def test_a_get_and_a_post_answer_alike(shop):
    shop.train()
    get, post = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}),
        shop.client.post("/api/recommend", {"user_id": 1}),
    )
    assert get.json["result"] == post.json["result"] == [5, 4, 3, 2, 1]


def test_every_answer_is_logged_with_what_was_scored(shop):
    shop.train((0.5, 1, 2))
    shop.run(shop.client.get("/api/recommend", {"user_id": 1, "k": 2}, headers=ID))
    ((_, record),) = shop.log.read(0)
    (logged,) = shop.predictions()
    assert (record.schema, record.source, record.id) == (
        "feilun.prediction.1",
        "gateway",
        "order-77",
    )
    assert record.subject == "user_id=1"
    assert record.time == record.received == record.client_time == shop.clock.now()
    assert (logged.capability, logged.model, logged.version) == ("recommend", "ranker", 1)
    assert (logged.as_of, logged.folded_offset) == (shop.clock.now(), 30)
    assert (logged.keys, logged.item, logged.items) == ({"user_id": 1}, "item_id", [1, 2, 3, 4, 5])
    assert logged.columns == shop.project.models["ranker"].columns_digest
    matrix = np.frombuffer(logged.vectors, np.float32).reshape(5, 3)
    assert matrix.tolist() == [[15, 2 * n, n] for n in range(1, 6)]
    scores = np.frombuffer(logged.scores, np.float64)
    assert scores.tolist() == [7.5 + 2 * n + 2 * n for n in range(1, 6)]
    assert (logged.answer, logged.degraded, logged.request_id) == ([5, 4], [], "order-77")


def test_nothing_is_answered_before_it_is_logged(shop, monkeypatch):
    def full(records):
        raise StoreFull("The log is full.")

    monkeypatch.setattr(shop.log, "append", full)
    shop.train()
    predicted, read = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}),
        shop.client.get("/api/user_profile", {"user_id": 1}),
    )
    assert (predicted.status, predicted.code) == (503, "store_full")
    assert read.status == 200


def test_a_retry_is_logged_once(shop):
    shop.train()
    first, again = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}, headers=ID),
        shop.client.post("/api/recommend", {"user_id": 1}, headers=ID),
    )
    assert first.json == again.json
    assert len(shop.predictions()) == 1


def test_a_retry_is_the_same_though_the_features_have_moved_on(shop):
    shop.train()

    async def later():
        shop.clock.advance(5_000_000)
        return await shop.client.get("/api/recommend", {"user_id": 1}, headers=ID)

    replies = shop.run(shop.client.get("/api/recommend", {"user_id": 1}, headers=ID), later())
    assert [reply.status for reply in replies] == [200, 200]
    assert len(shop.predictions()) == 1


def test_another_request_under_the_same_id_is_refused(shop):
    shop.train()
    _, other = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}, headers=ID),
        shop.client.get("/api/recommend", {"user_id": 2}, headers=ID),
    )
    assert (other.status, other.code) == (409, "conflict")
    assert len(shop.predictions()) == 1


def test_without_a_model_the_fallback_ranks_and_vectors_are_logged(shop):
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert reply.json["result"] == [5, 4, 3, 2, 1]  # as popular is
    assert (reply.json["version"], reply.json["degraded"]) == (None, ["no_model"])
    (logged,) = shop.predictions()
    assert (logged.version, logged.scores, logged.degraded) == (0, b"", ["no_model"])
    assert len(logged.vectors) == 4 * 3 * 5
    assert logged.columns == shop.project.models["ranker"].columns_digest


def test_without_a_model_a_numeric_fallback_is_the_score(shop):
    reply = shop.run(shop.client.get("/api/inventory", {"item_id": [3, 1, 99]}))
    assert reply.json["result"] == [6, 2, 0]
    assert shop.predictions()[0].answer == [3, 1, 99]


def test_without_a_model_and_a_fallback_it_is_said(shop):
    reply = shop.run(shop.client.get("/api/strict", {"user_id": 1}))
    assert (reply.status, reply.code) == (503, "no_model")
    assert "feilun train" in reply.json["error"]["hint"]
    assert shop.predictions() == []


def test_an_unknown_user_gets_what_everybody_gets(shop):
    shop.train((0, 1, 0))
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 404, "k": 2}))
    assert reply.json["result"] == [5, 4]


def test_items_of_the_request_are_scored_once_each_in_order(shop):
    shop.train((1,), model="demand")
    reply = shop.run(shop.client.post("/api/inventory", {"item_id": [2, 1, 2, 77]}))
    assert reply.json["result"] == [4, 2, 0]
    assert shop.predictions()[0].items == [2, 1, 77]


def test_no_items_give_no_answer_but_an_answer(shop):
    shop.train((1,), model="demand")
    reply = shop.run(shop.client.post("/api/inventory", {"item_id": []}))
    assert (reply.status, reply.json["result"]) == (200, [])


def test_too_many_items_are_refused(shop):
    reply = shop.run(shop.client.post("/api/inventory", {"item_id": list(range(10_001))}))
    assert (reply.status, reply.code) == (413, "too_large")


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
def test_a_model_that_fails_gives_way_to_the_fallback(shop, fault):
    shop.train((0, 0, -1), fault)
    fine, strict, metrics = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}),
        shop.client.get("/api/strict", {"user_id": 1}),
        shop.client.get("/metrics"),
    )
    assert fine.json["result"] == [5, 4, 3, 2, 1]
    assert (fine.json["version"], fine.json["degraded"]) == (None, ["model_failed"])
    assert (strict.status, strict.code) == (503, "unavailable")
    assert "secret" not in strict.body.decode() + fine.body.decode()
    line = 'feilun_model_failures_total{worker="w1",model="ranker",version="1"} 2'
    assert line in metrics.body.decode()
    (logged,) = shop.predictions()
    assert (logged.version, logged.scores) == (0, b"")


def test_a_model_that_becomes_slow_leaves_the_event_loop(shop):
    shop.train((0, 0, 1), "slow")
    replies = shop.run(*(shop.client.get("/api/recommend", {"user_id": 1}) for _ in range(3)))
    assert [reply.json["version"] for reply in replies] == [1, 1, 1]


def test_a_model_that_hangs_costs_its_callers_no_more_than_the_deadline(shop, monkeypatch):
    """One that hangs from its second call on: it was slow once, so it runs aside."""
    import asyncio

    monkeypatch.setattr(guarded_scorer, "DEADLINE_SECONDS", 0.1)
    shop.train((0, 0, 1), "slow")

    async def session():
        await shop.app.start()
        get = shop.client.get
        assert (await get("/api/recommend", {"user_id": 1})).json["version"] == 1
        served = shop.champions.get("ranker")
        served.scorer._scorer.fault = "hang"
        started = time.monotonic()
        asked = [get("/api/recommend", {"user_id": 1}) for _ in range(8)]
        others = [get("/health") for _ in range(5)]
        replies = await asyncio.gather(*asked, *others)
        late = await get("/api/recommend", {"user_id": 1})
        spent = time.monotonic() - started
        await shop.app.stop()
        return replies[:8], replies[8:], late, spent

    asked, others, late, spent = asyncio.run(session())
    assert all(reply.json["degraded"] == ["model_failed"] for reply in [*asked, late])
    assert all(reply.status == 200 for reply in others)
    assert spent < 2


def test_the_users_function_may_refuse_but_not_leak(shop):
    broken, fussy, odd = shop.run(
        shop.client.get("/api/broken", {"user_id": 1}),
        shop.client.get("/api/fussy", {"user_id": 1}),
        shop.client.get("/api/odd", {"user_id": 1}),
    )
    assert (broken.status, broken.code) == (500, "capability_failed")
    assert b"secret" not in broken.body and b"RuntimeError" in broken.body
    assert (fussy.status, fussy.json["error"]["hint"]) == (400, "Ask for another.")
    assert (odd.status, odd.code) == (500, "capability_failed")
    assert shop.predictions() == []


def test_features_that_are_still_being_built_are_named_and_not_trained_on(shop):
    shop.train()
    shop.store.clear()
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert "missing:user_profile:orders" in reply.json["degraded"]
    assert shop.predictions()[0].columns == "recompute"


def test_a_read_feature_that_the_model_does_not_use_flags_nothing(shop):
    shop.train()
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 404}))
    assert reply.json["degraded"] == []  # counts of nothing are 0; the gap is only read


def test_unknown_parameters_are_refused_with_the_near_one(shop):
    reply = shop.run(shop.client.get("/api/recommend", {"usr_id": 1}))
    assert (reply.status, reply.code) == (400, "bad_input")
    assert reply.json["error"]["hint"] == "Did you mean 'user_id'?"


class TestViews:
    def test_a_view_shows_an_entity(self, shop):
        reply = shop.run(shop.client.get("/api/user_profile", {"user_id": 1}))
        assert reply.status == 200
        body = reply.json
        assert body["keys"] == {"user_id": 1}
        assert body["features"]["orders"] == 15
        assert sorted(set(body["features"]["recent_items"])) == [1, 2, 3, 4, 5]
        assert body["features"]["last_place"] == 10
        assert (body["as_of"], body["folded_offset"]) == (shop.clock.now(), 30)
        assert body["degraded"] == []

    def test_what_is_missing_is_null_and_named(self, shop):
        reply = shop.run(shop.client.get("/api/user_profile", {"user_id": 404}))
        assert reply.json["features"]["orders"] == 0
        assert reply.json["features"]["last_place"] is None
        assert "missing:user_profile:last_place" in reply.json["degraded"]

    def test_views_of_two_entities_and_of_none(self, shop):
        pair, none = shop.run(
            shop.client.get("/api/user_item", {"user_id": 1, "item_id": 3}),
            shop.client.get("/api/trends"),
        )
        assert pair.json["features"] == {"bought": 3, "last_place": 30}
        assert none.json["features"]["popular"] == [5, 4, 3, 2, 1]

    @pytest.mark.parametrize("query", ["", "user_id=x", "user_id=1&item_id=2", "user_id=1&k=1"])
    def test_keys_are_exact(self, shop, query):
        reply = shop.run(shop.client.get("/api/user_profile", query.encode()))
        assert (reply.status, reply.code) == (400, "bad_input")

    def test_reads_are_not_logged(self, shop):
        shop.run(shop.client.get("/api/user_profile", {"user_id": 1}))
        assert shop.log.end() == 0


class TestMoments:
    def test_a_read_waits_for_its_own_write(self, shop):
        import asyncio

        async def session():
            await shop.app.start()
            read = asyncio.create_task(
                shop.client.get("/api/user_profile", {"user_id": 9, "min_offset": 30})
            )
            await asyncio.sleep(0.01)
            assert not read.done()
            shop.fold([(9, 1, 10, shop.clock.now() - 1)])
            reply = await read
            await shop.app.stop()
            return reply

        reply = asyncio.run(session())
        assert reply.json["features"]["orders"] == 1
        assert reply.json["folded_offset"] == 31

    def test_the_last_folded_offset_is_there_at_once(self, shop):
        assert shop.run(shop.client.get("/api/trends", {"min_offset": 29})).status == 200

    def test_a_wait_has_an_end(self, shop, monkeypatch):
        monkeypatch.setattr(shop.moments, "_patience", 0.02)
        reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1, "min_offset": 30}))
        assert (reply.status, reply.code) == (503, "behind")
        assert reply.headers["retry-after"] == "1"

    def test_a_clock_that_went_back_never_reads_before_what_is_folded(self, shop):
        shop.clock.set(5)
        reply = shop.run(shop.client.get("/api/user_profile", {"user_id": 1}))
        assert reply.json["as_of"] > 5
        assert reply.json["features"]["orders"] == 15

    def test_the_wall_clock_takes_no_time_from_callers(self, shop):
        reply = shop.run(shop.client.get("/api/trends", {"as_of": shop.clock.now()}))
        assert (reply.status, reply.code) == (400, "bad_input")

    def test_a_replay_gives_the_time(self, replay):
        later = replay.clock.now() + 40 * 86_400_000_000
        now, then, past = replay.run(
            replay.client.get("/api/user_profile", {"user_id": 1}),
            replay.client.get("/api/user_profile", {"user_id": 1, "as_of": later}),
            replay.client.get("/api/user_profile", {"user_id": 1, "as_of": 1}),
        )
        assert now.json["features"]["orders"] == 15
        assert then.json["as_of"] == later
        assert then.json["features"]["orders"] == 0
        assert (past.status, past.code) == (400, "bad_input")

    def test_a_replayed_prediction_is_dated_by_its_caller(self, replay):
        later = replay.clock.now() + 1
        replay.run(
            replay.client.post("/api/recommend", {"user_id": 1}, query={"as_of": later}, headers=ID)
        )
        ((_, record),) = replay.log.read(0)
        assert record.received == record.time == later


class TestEvents:
    def test_events_come_in_and_are_answered_one_by_one(self, shop):
        good = {"event": "order", "id": "a", "time": shop.clock.now(),
                "fields": {"user_id": 1, "item_id": 2, "place": 3}}  # fmt: skip
        batch = {"events": [good, {"event": "ordr"}, good]}
        reply = shop.run(shop.client.post("/api/events", batch))
        assert reply.status == 200
        assert [event["status"] for event in reply.json["events"]] == [
            "accepted",
            "bad",
            "duplicate",
        ]
        assert reply.json["events"][0]["offset"] == 0
        assert shop.log.end() == 1

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"events": 5}', b"\0" * 9, b"NaN"],
    )
    def test_what_cannot_be_read_is_said_and_never_a_defect(self, shop, body):
        reply = shop.run(shop.client.post("/api/events", body))
        assert reply.status in (200, 400)
        if reply.status == 200:
            assert all(event["status"] == "bad" for event in reply.json["events"])
        assert shop.log.end() == 0

    def test_a_large_body_is_refused(self, shop):
        reply = shop.run(shop.client.post("/api/events", b" " * (2 << 20)))
        assert (reply.status, reply.code) == (413, "too_large")


def test_numbers_of_every_kind_have_a_form_in_json(shop):
    import dataclasses

    shop.train()
    values = [np.int64(5), np.float32(0.5), np.array([1, 2]), np.bool_(True), float("nan")]
    spec = dataclasses.replace(
        shop.project.capabilities["recommend"], function=lambda scored, **_: values
    )
    shop.project.capabilities["recommend"] = spec
    from feilun.serving.worker import make_app

    shop.app = make_app(shop.parts)
    shop.client.app = shop.app
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert json.loads(reply.body)["result"] == [5, 0.5, [1, 2], True, None]
