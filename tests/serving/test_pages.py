"""Web pages of other origins: those that are welcome may send events, and nothing else."""

import dataclasses

import pytest

from feilun.serving.worker import make_app

SHOP = "https://shop.example"
EVENT = {"event": "order", "id": "p-1", "fields": {"user_id": 1, "item_id": 2, "place": 3}}


@pytest.fixture
def open_shop(shop):
    parts = dataclasses.replace(shop.parts, origins=frozenset({SHOP}))
    shop.app = shop.client.app = make_app(parts)
    return shop


def page(origin=SHOP, site=b"cross-site", kind=b"application/json"):
    return [(b"origin", origin.encode()), (b"sec-fetch-site", site), (b"content-type", kind)]


def ask(shop, method, path, headers, body=EVENT):
    return shop.run(shop.client.ask(method, path, body=body, headers=headers))


def test_by_default_no_page_is_welcome(shop):
    assert ask(shop, "POST", "/api/events", page()).status == 403
    reply = ask(shop, "OPTIONS", "/api/events", page())
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_welcome_page_may_send_events_and_read_the_answer(open_shop):
    reply = ask(open_shop, "POST", "/api/events", page())
    assert reply.status == 200
    assert reply.json["events"][0]["status"] == "accepted"
    assert reply.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in reply.headers
    assert reply.headers["vary"] == "origin"


def test_its_preflight_is_answered(open_shop):
    reply = ask(open_shop, "OPTIONS", "/api/events", page())
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["access-control-allow-origin"] == SHOP
    assert reply.headers["access-control-allow-methods"] == "POST"
    assert "content-type" in reply.headers["access-control-allow-headers"]
    assert "authorization" not in reply.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://shop.example.evil",
        "http://shop.example",
        "https://shop.example:8443",
        "https://SHOP.example",
        "null",
        "",
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_any_other_page_is_refused(open_shop, origin, method):
    reply = ask(open_shop, method, "/api/events", page(origin, kind=b"text/plain"))
    assert reply.status == 403
    assert "access-control-allow-origin" not in reply.headers


def test_only_events_and_the_tracker_are_open_to_pages(open_shop):
    opened = set()
    for path, route in open_shop.app.routes.items():
        for method in (*route.methods, "OPTIONS"):
            reply = ask(open_shop, method, path, page())
            if reply.status != 403:
                opened.add((method, path))
    assert opened == {
        ("POST", "/api/events"), ("OPTIONS", "/api/events"),
        ("GET", "/feilun.js"), ("OPTIONS", "/feilun.js"),
    }  # fmt: skip


def test_plain_text_is_taken_from_a_welcome_page_alone(open_shop):
    """It needs no preflight, so whoever may send it must be known by the origin."""
    plain = b"text/plain;charset=UTF-8"
    assert ask(open_shop, "POST", "/api/events", page(kind=plain)).status == 200
    own = [(b"content-type", plain)]
    assert ask(open_shop, "POST", "/api/events", own).status == 415
    same = page("http://localhost", b"same-origin", plain)
    assert ask(open_shop, "POST", "/api/events", same).status == 415
    form = page(kind=b"application/x-www-form-urlencoded")
    assert ask(open_shop, "POST", "/api/events", form).status == 415


def test_errors_can_be_read_too(open_shop):
    reply = ask(open_shop, "POST", "/api/events", page(), b"[")
    assert reply.status == 400
    assert reply.headers["access-control-allow-origin"] == SHOP


def test_a_page_cannot_take_the_ids_of_another_source(open_shop):
    stolen = {"source": "till", "events": [EVENT]}
    honest = {"source": "till", "events": [{**EVENT, "fields": {**EVENT["fields"], "place": 9}}]}
    client = open_shop.client
    _, reply = open_shop.run(
        client.post("/api/events", stolen, headers=page()), client.post("/api/events", honest)
    )
    assert reply.json["events"][0]["status"] == "accepted"
    sources = {record.source for _, record in open_shop.log.read(0)}
    assert sources == {"page", "till"}


def test_the_tracker_is_a_module_that_may_be_kept(open_shop):
    reply = ask(open_shop, "GET", "/feilun.js", page())
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=3600"
    assert reply.headers["vary"] == "origin"
    assert b"export class Tracker" in reply.body
    assert "vary" in ask(open_shop, "GET", "/feilun.js", []).headers
