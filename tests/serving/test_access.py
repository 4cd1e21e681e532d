"""Who is let in: every route × method × role, and everything that is tried instead of a key."""

import asyncio
from dataclasses import replace
from itertools import product

import pytest

from feilun.clock import MINUTE
from feilun.errors import ConfigError, Unavailable
from feilun.serving.access.guard import ADMIN, OPEN, TEAMS, scoped
from feilun.serving.app import Route
from feilun.serving.worker import EVENTS_SCOPE, make_app

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")
ROLES = ("nobody", "revoked", "expired", "unknown", "other team", "right team", "admin")
OPEN_PATHS = {"/health", "/ready", "/feilun.js"}
TEAM_PATHS = {"/openapi.json", "/docs"}
ADMIN_PATHS = {"/metrics", "/status"}


def bearer(key):
    return [(b"authorization", b"Bearer " + key.encode())]


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
