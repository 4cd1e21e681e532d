"""Teams: what each may spend, sees and shares with nobody, and what is kept of it."""

import re

import pytest

from feilun.clock import DAY, MINUTE
from feilun.records.record import PREDICTION_SCHEMA
from feilun.serving.access.keys import make_key

OPEN_PATHS = {"/health", "/ready", "/feilun.js"}
TEAM_PATHS = {"/openapi.json", "/docs"}


def bearer(key):
    return [(b"authorization", b"Bearer " + key.encode())]


def order(id):
    return {
        "event": "order",
        "id": id,
        "fields": {"user_id": 1, "item_id": 2, "place": 3},
    }


class TestQuota:
    def test_a_team_that_has_spent_it_is_told_when_to_come_back(self, shop):
        key = shop.add_team("growth", "user_profile", quota=0.25)

        def ask():
            return shop.client.get("/api/user_profile", {"user_id": 1}, headers=bearer(key))

        first, second = shop.run(ask(), ask())
        assert first.status == 200
        assert (second.status, second.code) == (429, "too_many")
        assert second.headers["retry-after"] == "4"
        assert "0.25" in second.json["error"]["message"]

    def test_it_is_each_teams_own_and_the_token_has_none(self, shop):
        one = shop.add_team("one", "user_profile", quota=0.25)
        two = shop.add_team("two", "user_profile", quota=0.25)
        keys = [one, two, shop.token, shop.token, shop.token, two]
        replies = shop.run(
            *(
                shop.client.get("/api/user_profile", {"user_id": 1}, headers=bearer(key))
                for key in keys
            )
        )
        assert [reply.status for reply in replies] == [200, 200, 200, 200, 200, 429]

    def test_each_request_of_a_batch_counts(self, shop):
        shop.train(version=7)
        key = shop.add_team("growth", "recommend", quota=3.0)
        bodies = [{"user_id": user} for user in range(5)]
        batch, single = shop.run(
            shop.client.post("/api/recommend/batch", bodies, headers=bearer(key)),
            shop.client.get("/api/recommend", {"user_id": 1}, headers=bearer(key)),
        )
        statuses = [reply["status"] for reply in batch.json["replies"]]
        assert sorted(statuses) == [200, 200, 200, 429, 429]
        assert (batch.status, single.status) == (200, 429)
        assert [row.requests for row in shop.teams.usage()] == [3]

    def test_all_keys_of_a_team_share_it_and_asking_for_what_is_not_its_own_spends_it(self, shop):
        one, two = shop.add_team("one", "user_profile", quota=0.25), make_key()
        shop.teams.rotate("one", two.stored, until=shop.clock.now() + DAY, at=1, by="test")
        other, mine = shop.run(
            shop.client.get("/status", headers=bearer(one)),
            shop.client.get("/api/user_profile", {"user_id": 1}, headers=bearer(two.text)),
        )
        assert (other.status, mine.status) == (404, 429)


class TestTeamsApart:
    def test_request_ids_are_each_teams_own(self, shop):
        shop.train()
        one, two = shop.add_team("one", "recommend"), shop.add_team("two", "recommend")

        def ask(key, user):
            headers = [*bearer(key), (b"x-request-id", b"r-1")]
            return shop.client.get("/api/recommend", {"user_id": user}, headers=headers)

        mine, theirs, again, other = shop.run(ask(one, 1), ask(two, 2), ask(one, 1), ask(one, 2))
        assert [r.status for r in (mine, theirs, again, other)] == [200, 200, 200, 409]
        sources = [r.source for _, r in shop.log.read(0) if r.schema == PREDICTION_SCHEMA]
        assert sources == ["one/gateway", "two/gateway"]

    def test_a_first_reply_is_replayed_to_its_own_team_alone(self, shop):
        shop.train(version=7)
        one, two = shop.add_team("one", "recommend"), shop.add_team("two", "recommend")

        def ask(key, path="/api/recommend", body=None):
            headers = [*bearer(key), (b"idempotency-key", b"same")]
            return shop.client.post(path, body or {"user_id": 1}, headers=headers)

        batch = [{"user_id": 1}, {"user_id": 2}]
        replies = shop.run(
            ask(one), ask(one), ask(two),
            *(ask(key, "/api/recommend/batch", batch) for key in (one, one, two)),
        )  # fmt: skip
        assert {reply.status for reply in replies} == {200}
        assert replies[0].body == replies[1].body
        assert {r.source for _, r in shop.log.read(0)} == {"one/gateway", "two/gateway"}
        used = [(row.team, row.model, row.version, row.requests) for row in shop.teams.usage()]
        assert used == [("one", "ranker", 7, 3), ("two", "ranker", 7, 3)], "replays cost nothing"

    def test_event_ids_are_each_teams_own(self, shop):
        one, two = shop.add_team("one", "events"), shop.add_team("two", "events")
        batch = {"source": "web", "events": [order("A-1")]}
        other = {"source": "web", "events": [{**order("A-1"), "fields": {
            "user_id": 9, "item_id": 9, "place": 9}}]}  # fmt: skip
        replies = shop.run(
            shop.client.post("/api/events", batch, headers=bearer(one)),
            shop.client.post("/api/events", other, headers=bearer(two)),
            shop.client.post("/api/events", other, headers=bearer(one)),
            shop.client.post("/api/events", order("A-1"), headers=bearer(one)),
        )
        said = [reply.json["events"][0]["status"] for reply in replies]
        assert said == ["accepted", "accepted", "conflict", "accepted"]
        assert {r.source for _, r in shop.log.read(0)} == {"one/web", "two/web", "one/api"}

    @pytest.mark.parametrize("source", ["two/web", "gateway", "two/gateway", "/", "feilun/engine"])
    def test_nobody_writes_under_anothers_name(self, shop, source):
        one = shop.add_team("one", "events")
        batch = {"source": source, "events": [order("A-1")]}
        reply = shop.run(shop.client.post("/api/events", batch, headers=bearer(one)))
        assert reply.status == 400
        assert shop.log.end() == 0


class TestWhatIsKept:
    def test_usage_is_of_answers_by_team_scope_model_and_version(self, shop):
        shop.train(version=7)
        key = shop.add_team("growth", "recommend", "user_profile", "events")

        def ask(path, **query):
            return shop.client.get(path, query, headers=bearer(key))

        shop.run(
            ask("/api/recommend", user_id=1),
            ask("/api/recommend", user_id=2),
            ask("/api/recommend", user_id="x"),
            ask("/api/inventory", item_id=1),
            ask("/api/user_profile", user_id=1),
            shop.client.post("/api/events", order("A-1"), headers=bearer(key)),
            shop.client.get("/api/recommend", {"user_id": 1}, headers=bearer(shop.token)),
        )
        day = shop.clock.now() // DAY
        assert [tuple(row) for row in shop.teams.usage()] == [
            (day, "growth", "events", "", 0, 1),
            (day, "growth", "recommend", "ranker", 7, 2),
            (day, "growth", "user_profile", "", 0, 1),
        ]

    def test_the_first_use_of_a_key_on_a_route_in_a_minute_is_audited(self, shop):
        key = shop.add_team("growth", "user_profile")
        id = shop.teams.load().keys[0].id

        async def ask(path="/api/user_profile", key=key):
            return await shop.client.get(path, {"user_id": 1}, headers=bearer(key))

        async def later():
            shop.clock.set(shop.clock.now() + MINUTE)
            return await ask()

        shop.run(ask(), ask(), ask("/status"), ask("/nowhere"), ask("/nothing"), later(),
                 ask("/status", shop.token))  # fmt: skip
        uses = [entry for entry in shop.teams.audit(100) if entry.action == "use"]
        start = shop.clock.now() // MINUTE * MINUTE - MINUTE
        assert [(u.at, u.by, u.subject, u.detail) for u in uses] == [
            (start, id, "growth", "/api/user_profile"),
            (start, id, "growth", "/status"),
            (start, id, "growth", "unmatched"),
            (start + MINUTE, id, "growth", "/api/user_profile"),
            (start + MINUTE, "local", "", "/status"),
        ]

    def test_no_key_is_in_the_log_in_replies_or_in_what_is_kept(self, shop, caplog):
        caplog.set_level("DEBUG")
        key = shop.add_team("growth", "broken", "user_profile")
        replies = shop.run(
            *(
                shop.client.get(path, {"user_id": 1}, headers=bearer(secret))
                for path in ("/api/broken", "/api/user_profile", "/nowhere", "/status", "/metrics")
                for secret in (key, key[:-1] + "-", shop.token)
            )
        )
        kept = repr((shop.teams.load(), shop.teams.audit(100), shop.teams.usage()))
        seen = caplog.text + kept + "".join(repr(reply) for reply in replies)
        assert 500 in {reply.status for reply in replies}
        assert key.rpartition("_")[2][:20] not in seen
        assert shop.token[4:24] not in seen


class TestDescriptions:
    def test_they_say_whether_a_key_is_needed(self, shop):
        before = shop.run(shop.client.get("/openapi.json"), shop.client.get("/docs"))
        shop.add_team("growth", "recommend")
        token = bearer(shop.token)
        after = shop.run(
            shop.client.get("/openapi.json", headers=token), shop.client.get("/docs", headers=token)
        )
        assert "security" not in before[0].json
        assert after[0].json["security"] == [{"key": []}]
        assert after[0].json["paths"]["/health"]["get"]["security"] == []
        assert b"$FEILUN_KEY" in after[1].body
        assert b"$FEILUN_KEY" not in before[1].body

    def test_a_team_sees_what_it_may_call_and_nothing_of_the_rest(self, shop):
        some = bearer(shop.add_team("growth", "recommend", "user_profile"))
        none = bearer(shop.add_team("ads", "events"))
        spec, page, whole, events = shop.run(
            shop.client.get("/openapi.json", headers=some),
            shop.client.get("/docs", headers=some),
            shop.client.get("/openapi.json", headers=bearer(shop.token)),
            shop.client.get("/openapi.json", headers=none),
        )
        shared = OPEN_PATHS | TEAM_PATHS
        mine = {"/api/recommend", "/api/recommend/batch", "/api/user_profile"}
        assert set(spec.json["paths"]) == mine | shared
        assert set(events.json["paths"]) == {"/api/events"} | shared
        assert set(whole.json["paths"]) == set(shop.app.routes)
        schemas = spec.json["components"]["schemas"]
        own = {"capability.recommend", "view.user_profile", "ErrorReply", "ErrorBody"}
        assert set(schemas) == own
        assert "EventsReply" in events.json["components"]["schemas"]
        for said in (spec.body, page.body):
            assert b"inventory" not in said
            assert b"item_profile" not in said
            assert b"An order line." not in said
        for reply in (spec, events, whole):
            names = set(reply.json["components"]["schemas"])
            refs = set(re.findall(rb'"#/components/schemas/([^"]+)"', reply.body))
            assert {ref.decode() for ref in refs} <= names

    def test_ready_says_no_reasons_to_strangers(self, shop):
        shop.release("ranker", 1, "0" * 64)
        before = shop.run(shop.client.get("/ready"))
        shop.add_team("growth", "recommend")
        after, status = shop.run(
            shop.client.get("/ready"), shop.client.get("/status", headers=bearer(shop.token))
        )
        assert before.json["status"] == after.json["status"] == "degraded"
        assert before.json["problems"] == status.json["problems"] != []
        assert after.json["problems"] == []
        assert status.json["keys"] == "required"
