"""Who is let in: every route × method × role, and everything that is tried instead of a key."""

import asyncio
import re
from dataclasses import replace
from itertools import product

import pytest

from feilun.clock import DAY, MINUTE
from feilun.errors import ConfigError, Unavailable
from feilun.records.record import PREDICTION_SCHEMA
from feilun.serving.access import ADMIN, OPEN, TEAMS, scoped
from feilun.serving.app import Route
from feilun.serving.keys import make_key
from feilun.serving.worker import EVENTS_SCOPE, make_app

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")
ROLES = ("nobody", "revoked", "expired", "unknown", "other team", "right team", "admin")
OPEN_PATHS = {"/health", "/ready", "/feilun.js"}
TEAM_PATHS = {"/openapi.json", "/docs"}
ADMIN_PATHS = {"/metrics", "/status"}


def bearer(key):
    return [(b"authorization", b"Bearer " + key.encode())]


def order(id):
    return {
        "event": "order",
        "id": id,
        "fields": {"user_id": 1, "item_id": 2, "place": 3},
    }


def keys_of(shop, path, scope):
    """Return a key for each role; the right team may call ``scope``, the other all else."""
    project = shop.project
    others = {*project.capabilities, *project.views, EVENTS_SCOPE} - {scope}
    revoked = shop.add_team(f"revoked {path}", scope)
    shop.teams.revoke(f"revoked {path}", at=shop.clock.now(), by="test")
    return {
        "nobody": None,
        "revoked": revoked,
        "expired": shop.add_team(f"expired {path}", scope, expires=shop.clock.now()),
        "unknown": shop.add_team(f"first {path}", scope)[:-1] + "-",
        "other team": shop.add_team(f"other {path}", *others),
        "right team": shop.add_team(f"right {path}", scope),
        "admin": shop.token,
    }


def expected(path, method, role, route):
    """Say what a role gets: this is the whole rule, written a second time."""
    if path in OPEN_PATHS or role == "admin":
        return "served" if method in route.methods else 405
    if role in ("nobody", "revoked", "expired", "unknown"):
        return 401
    if path in ADMIN_PATHS or (role == "other team" and path not in TEAM_PATHS):
        return 404
    return "served" if method in route.methods else 405


def test_every_route_lets_in_whom_it_says_by_every_method(shop):
    checked = 0
    for path, route in shop.app.routes.items():
        keys = keys_of(shop, path, route.access.scope)
        cases = list(product(METHODS, ROLES))
        replies = shop.run(
            *(
                shop.client.ask(method, path, headers=bearer(keys[role]) if keys[role] else ())
                for method, role in cases
            )
        )
        for (method, role), reply in zip(cases, replies, strict=True):
            wanted = expected(path, method, role, route)
            if wanted == "served":  # whatever it says to a request without parameters
                assert reply.status not in (401, 404, 405, 429), (path, method, role, reply)
            else:
                assert reply.status == wanted, (path, method, role, reply)
            assert (reply.headers.get("www-authenticate") == "Bearer") == (reply.status == 401)
            checked += 1
    assert checked == len(METHODS) * len(ROLES) * len(shop.app.routes)


def test_every_route_declares_its_access(shop):
    with pytest.raises(TypeError):
        Route({})
    for path, route in shop.app.routes.items():
        if path in OPEN_PATHS:
            assert route.access == OPEN
        elif path in TEAM_PATHS:
            assert route.access == TEAMS
        elif path in ADMIN_PATHS:
            assert route.access == ADMIN
        else:
            scope = path.removeprefix("/api/").removesuffix("/batch")
            assert route.access == scoped(scope)


def test_who_has_no_key_learns_of_no_path(shop):
    shop.add_team("growth", "recommend")
    paths = ("/api/recommend", "/api/nothing", "/status", "/", "/docs", "/api/recommend/")
    replies = shop.run(*(shop.client.get(path) for path in paths))
    assert {reply.status for reply in replies} == {401}
    assert len({reply.json["error"]["message"] for reply in replies}) == 1


def test_a_path_of_others_and_one_that_is_not_there_look_alike(shop):
    key = shop.add_team("growth", "recommend")
    theirs, nobodys = shop.run(
        shop.client.get("/api/inventory", headers=bearer(key)),
        shop.client.get("/api/inventary", headers=bearer(key)),
    )
    said = [reply.json["error"] for reply in (theirs, nobodys)]
    for error in said:
        error.pop("request_id")
        error["message"] = error["message"].replace("inventary", "inventory")
    assert theirs.status == nobodys.status == 404
    assert said[0] == said[1]
    assert "/docs" in said[0]["hint"]


class Untouched:
    """A body that must not be read."""

    def __init__(self, app):
        self.app = app
        self.read = 0

    async def post(self, path, headers):
        async def receive():
            self.read += 1
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def send(message):
            self.status = message.get("status", getattr(self, "status", None))

        sent = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"",
                 "headers": sent}  # fmt: skip
        await self.app(scope, receive, send)


@pytest.mark.parametrize(("quota", "status"), [(None, 401), (1000.0, 404), (0.001, 429)])
def test_the_body_is_not_read_before_somebody_is_let_in(shop, quota, status):
    key = shop.add_team("growth", "recommend", quota=quota or 1.0)
    body = Untouched(shop.app)
    headers = bearer(key) if quota else []
    spend = shop.client.post("/api/recommend", {"user_id": 1}, headers=bearer(key))
    shop.run(spend, body.post("/api/events", headers))
    assert body.status == status
    assert body.read == 0


def test_keys_are_asked_for_from_the_first_team_on_and_ever_after(shop):
    before = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert before.status == 200
    shop.add_team("growth", "recommend")
    after = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert after.status == 401
    shop.teams.revoke("growth", at=shop.clock.now(), by="test")
    still = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert still.status == 401


def test_keys_may_be_required_before_there_is_a_team(shop, tmp_path):
    shop = type(shop)(tmp_path, keys_required=True)
    nobody, admin, alive = shop.run(
        shop.client.get("/status"),
        shop.client.get("/status", headers=bearer(shop.token)),
        shop.client.get("/health"),
    )
    assert (nobody.status, admin.status, alive.status) == (401, 200, 200)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"Bearer ",
        b"Bearer",
        b"Basic Z3Jvd3RoOng=",
        b"Bearer null",
        b"Bearer flk_",
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 100_000,
        b"flk_%s",
        b"Bearer flk_%s ",
        b"Bearer FLK_%s",
        b"Bearer  flk_%s",
    ],
)
def test_what_is_not_a_key_is_refused(shop, sent):
    key = shop.add_team("growth", "recommend")
    sent = sent.replace(b"flk_%s", key.encode()).replace(b"FLK_%s", key.upper().encode())
    reply = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}, headers=[(b"authorization", sent)])
    )
    assert reply.status == 401
    assert key not in reply.body.decode()


def test_a_wrong_key_is_refused_even_while_none_is_needed(shop):
    reply = shop.run(shop.client.get("/health"), shop.client.get("/status", headers=bearer("x")))
    assert [each.status for each in reply] == [200, 401]


def test_two_keys_are_nobodys(shop):
    key = shop.add_team("growth", "recommend")
    reply = shop.run(
        shop.client.get("/api/recommend", {"user_id": 1}, headers=[*bearer(key), *bearer(key)])
    )
    assert reply.status == 401


def test_a_key_ends_when_it_says(shop):
    key = shop.add_team("growth", "user_profile", expires=shop.clock.now() + MINUTE)

    async def ask():
        return await shop.client.get("/api/user_profile", {"user_id": 1}, headers=bearer(key))

    async def ask_later(moment):
        shop.clock.set(moment)
        return await ask()

    end = shop.clock.now() + MINUTE
    before, at = shop.run(ask_later(end - 1), ask_later(end))
    assert (before.status, at.status) == (200, 401)


@pytest.mark.parametrize("secret", ["key", "token"])
@pytest.mark.parametrize("place", ["query", "encoded", "path"])
def test_a_key_in_a_url_is_refused_and_not_repeated(shop, caplog, secret, place):
    key = shop.add_team("growth", "recommend")
    text = key if secret == "key" else shop.token
    path, query = "/api/recommend", f"user_id=1&key={text}".encode()
    if place == "encoded":
        query = b"user_id=1&key=" + "".join(f"%{ord(c):02X}" for c in text).encode()
    elif place == "path":
        path, query = f"/api/{text}", b""
    reply = shop.run(shop.client.get(path, query, headers=bearer(shop.token)))
    assert reply.status == 400
    assert text not in reply.body.decode() + caplog.text
    assert "Bearer" in reply.json["error"]["hint"]


def test_a_value_that_begins_like_a_key_is_a_value(shop):
    shop.add_team("growth", "recommend")
    reply = shop.run(
        shop.client.get(
            "/api/user_profile", b"user_id=1&min_offset=flk_7", headers=bearer(shop.token)
        )
    )
    assert "min_offset" in reply.json["error"]["message"]


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


class TestTheLink:
    def login(self, shop, query=None, **options):
        query = f"token={shop.token}".encode() if query is None else query
        return shop.client.get("/docs", query, **options)

    def cookie(self, reply):
        return reply.headers["set-cookie"].partition(";")[0].encode()

    def test_it_puts_another_secret_into_a_cookie_that_scripts_cannot_read(self, shop):
        shop.add_team("growth", "recommend")
        reply = shop.run(self.login(shop, host="127.0.0.1:8600"))
        assert (reply.status, reply.headers["location"]) == (303, "/docs")
        assert reply.headers["referrer-policy"] == "no-referrer"
        words = reply.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(words[1:])
        assert words[0].startswith("feilun_8600=")
        assert shop.token not in reply.headers["set-cookie"]
        cookie, host = words[0].encode(), "127.0.0.1:8600"
        page, status = shop.run(
            shop.client.get("/docs", host=host, headers=[(b"cookie", cookie)]),
            shop.client.get("/status", host=host, headers=[(b"cookie", b"a=b; " + cookie)]),
        )
        assert (page.status, status.status) == (200, 200)

    @pytest.mark.parametrize(
        "query", [b"token=", b"token=flt_", b"token=x&token=y", b"token=%ff", b"token=a" * 3_000]
    )
    def test_another_token_is_refused(self, shop, query):
        reply = shop.run(self.login(shop, query))
        assert reply.status == 401
        assert "set-cookie" not in reply.headers

    def test_the_token_is_not_a_cookie_and_another_ports_cookie_is_not_this_ones(self, shop):
        shop.add_team("growth", "recommend")
        cookie = self.cookie(shop.run(self.login(shop, host="localhost:1")))
        tries = [
            (b"feilun_1=" + shop.token.encode(), "localhost:1"),
            (cookie, "localhost:2"),
            (cookie[:-1] + b"!", "localhost:1"),
            (b"feilun_1=", "localhost:1"),
        ]
        replies = shop.run(
            *(shop.client.get("/status", host=host, headers=[(b"cookie", c)]) for c, host in tries)
        )
        assert {reply.status for reply in replies} == {401}

    def test_pages_of_other_servers_cannot_use_it(self, shop):
        shop.add_team("growth", "recommend")
        cookie = self.cookie(shop.run(self.login(shop)))
        replies = shop.run(
            *(
                shop.client.get("/status", headers=[(b"cookie", cookie), (b"sec-fetch-site", site)])
                for site in (b"same-origin", b"none", b"same-site", b"cross-site")
            )
        )
        assert [reply.status for reply in replies] == [200, 200, 403, 403]

    def test_it_leads_in_on_its_own_path_and_by_get_alone(self, shop):
        query = f"token={shop.token}".encode()
        status, post = shop.run(
            shop.client.get("/status", query), shop.client.ask("POST", "/docs", query)
        )
        assert (status.status, post.status) == (400, 400)


class TestOrigin:
    """DNS rebinding: a name that an attacker points here comes as the host, whatever key comes."""

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "127.0.0.1.evil.example:80",
            "127.0.0.2",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "localhost:80:80",
            "",
            None,
        ],
    )
    def test_it_is_refused_even_with_the_token(self, shop, host):
        reply, link, open_ = shop.run(
            shop.client.get("/status", headers=bearer(shop.token), host=host),
            shop.client.get("/docs", f"token={shop.token}".encode(), host=host),
            shop.client.get("/health", host=host),
        )
        assert (reply.status, link.status, open_.status) == (403, 403, 403)
        assert "set-cookie" not in link.headers

    def test_names_that_proxies_add_are_not_believed(self, shop):
        shop.add_team("growth", "recommend")
        named = [(b"x-forwarded-host", b"localhost"), (b"x-forwarded-for", b"127.0.0.1"),
                 (b"x-original-url", b"/health"), (b"x-http-method-override", b"GET")]  # fmt: skip
        evil, nobody = shop.run(
            shop.client.get("/status", host="evil.example", headers=named),
            shop.client.get("/status", headers=named),
        )
        assert (evil.status, nobody.status) == (403, 401)


class TestPages:
    """A page holds no secret: that its origin is welcome on a route stands for a key there."""

    SHOP = "https://shop.example"

    @pytest.fixture
    def shop(self, shop):
        parts = replace(shop.parts, origins=frozenset({self.SHOP}))
        shop.app = shop.client.app = make_app(parts)
        return shop

    def page(self, origin=SHOP):
        return [(b"origin", origin.encode()), (b"sec-fetch-site", b"cross-site")]

    def test_a_welcome_one_sends_events_without_a_key_and_may_do_nothing_else(self, shop):
        shop.add_team("growth", "events", "recommend")
        sent, ahead, tracker, read, status = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=self.page()),
            shop.client.ask("OPTIONS", "/api/events", headers=self.page()),
            shop.client.get("/feilun.js", headers=self.page()),
            shop.client.get("/api/recommend", {"user_id": 1}, headers=self.page()),
            shop.client.get("/status", headers=self.page()),
        )
        assert (sent.status, ahead.status, tracker.status) == (200, 200, 200)
        assert (read.status, status.status) == (403, 403)
        assert [record.source for _, record in shop.log.read(0)] == ["page"]
        assert shop.teams.usage() == []

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "", SHOP + ":8443"])
    def test_another_one_is_refused(self, shop, origin):
        shop.add_team("growth", "events")
        page = self.page(origin)
        cross, plain = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=page),
            shop.client.post("/api/events", order("p-1"), headers=page[:1]),
        )
        assert (cross.status, plain.status) == (403, 401)
        assert shop.log.end() == 0

    def test_a_key_that_is_sent_counts_though_the_origin_is_welcome(self, shop):
        key = shop.add_team("growth", "recommend")
        wrong, other = shop.run(
            shop.client.post("/api/events", order("p-1"), headers=[*self.page(), *bearer("x")]),
            shop.client.post("/api/events", order("p-1"), headers=[*self.page(), *bearer(key)]),
        )
        assert (wrong.status, other.status) == (401, 404)


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
        before = shop.run(shop.client.get("/ready"))
        shop.add_team("growth", "recommend")
        after, status = shop.run(
            shop.client.get("/ready"), shop.client.get("/status", headers=bearer(shop.token))
        )
        assert before.status == after.status == 503
        assert before.json["problems"] == status.json["problems"] != []
        assert after.json["problems"] == []
        assert status.json["keys"] == "required"


def test_a_gateway_without_a_token_does_not_start(shop):
    for token in ("", "x", "flt_short"):
        with pytest.raises(ConfigError, match="token"):
            make_app(replace(shop.parts, token=token))


def test_a_worker_that_has_never_read_the_keys_lets_nobody_in_until_it_has(shop):
    key = shop.add_team("growth", "recommend")
    shop.teams.failure = Unavailable("The disk is gone.", "Put it back.")
    get, recommend = shop.client.get, ("/api/recommend", {"user_id": 1})

    async def mended():
        shop.teams.failure = None
        async with asyncio.timeout(10):
            while (reply := await get(*recommend, headers=bearer(key))).status == 503:
                await asyncio.sleep(0.01)
        return reply, await get(*recommend)

    ready, stranger, known, status, (after, still) = shop.run(
        get("/ready"), get(*recommend), get(*recommend, headers=bearer(key)),
        get("/status", headers=bearer(shop.token)), mended(),
    )  # fmt: skip
    assert (ready.status, ready.json["problems"]) == (503, [])
    assert stranger.status == known.status == 503
    assert "nobody is let in" in stranger.json["error"]["message"]
    assert any("The disk is gone." in problem for problem in status.json["problems"])
    assert (after.status, still.status) == (200, 401)


def test_a_worker_whose_keys_cannot_be_read_any_more_says_so_and_goes_on(shop):
    shop.train()
    get, recommend = shop.client.get, ("/api/recommend", {"user_id": 1})

    async def lost():
        shop.teams.failure = Unavailable("The disk is gone.", "Put it back.")
        async with asyncio.timeout(10):
            while (ready := await get("/ready")).json["status"] == "ready":
                await asyncio.sleep(0.01)
        return ready, await get(*recommend)

    before, (after, reply) = shop.run(get("/ready"), lost())
    assert before.json == {"status": "ready", "problems": []}
    assert (after.status, after.json["status"]) == (200, "degraded")
    assert "The disk is gone." in after.json["problems"][0]
    assert reply.status == 200
