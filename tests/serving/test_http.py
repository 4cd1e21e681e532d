"""The outer wall: what is refused before anything of the project is touched."""

import asyncio
import re

import pytest

from feilun.clock import SystemClock
from feilun.errors import Conflict, StoreFull
from feilun.serving.access.guard import OPEN, Guard
from feilun.serving.access.keyring import Keyring
from feilun.serving.access.keys import make_token
from feilun.serving.access.quota import OwnQuota
from feilun.serving.access.usage import Meter
from feilun.serving.app import Gateway, Route
from feilun.serving.http.admission import Admission
from feilun.serving.http.exchange import Response
from feilun.serving.metrics import Metrics
from feilun.testing.team_fakes import InMemoryTeams

HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


async def nothing():
    """Start and stop."""


async def echo(request):
    return Response(request.body or b"{}")


def raising(error):
    async def handler(request):
        raise error

    return handler


def gateway(routes, metrics, start=nothing):
    teams, clock = InMemoryTeams(), SystemClock()
    keyring, meter = Keyring(teams, required=False), Meter(teams, clock, metrics)
    keyring.refresh()
    guard = Guard(keyring=keyring, quota=OwnQuota(), meter=meter, clock=clock, token=make_token())
    return Gateway(
        routes, hosts=HOSTS, guard=guard, admission=Admission(), meter=meter, metrics=metrics,
        clock=clock, start=start, stop=nothing,
    )  # fmt: skip


@pytest.fixture
def metrics():
    return Metrics({"feilun_requests_total": "Requests."}, "w")


@pytest.fixture
def client(client_of, metrics):
    routes = {
        "/api/echo": Route({"GET": echo, "POST": echo}, OPEN, body_bytes=100),
        "/api/full": Route(
            {"GET": raising(StoreFull("The log is full.", "Free some disk."))}, OPEN
        ),
        "/api/bug": Route({"GET": raising(RuntimeError("secret detail"))}, OPEN),
        "/api/twice": Route({"GET": raising(Conflict("Other body."))}, OPEN),
    }
    return client_of(gateway(routes, metrics))


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/api", "/api/", "/api/echo/", "/api//echo", "//api/echo", "/api/../api/echo",
     "/api/./echo", "/api/%2e%2e/echo", "/api/..%2fecho", "/API/echo", "/api/echo\0",
     "/api/echo;x=1", "/api\\echo", "/api/nope", "/.git/config", "/api/echo/../../etc/passwd"],
)  # fmt: skip
def test_only_exact_paths_answer(client, path):
    reply = run(client.get(path))
    assert (reply.status, reply.code) == (404, "unknown_name")


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "get", ""]
)
def test_other_methods_are_refused_with_those_that_are_taken(client, method):
    reply = run(client.ask(method, "/api/echo"))
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "LOCALHOST:8600", "[::1]:8600", "[::1]"]
)
def test_its_own_names_are_answered(client, host):
    assert run(client.get("/api/echo", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "localhost.evil.example", "evil.example:80", "127.0.0.1.evil",
     "localhost@evil.example", "localhost:80:80", "localhost:", "0.0.0.0", "[::1", "localhost\t"],
)  # fmt: skip
def test_a_name_pointed_at_this_machine_is_refused(client, host):
    reply = run(client.get("/api/echo", host=host))
    assert (reply.status, reply.code) == (403, "refused")
    assert "evil" not in reply.body.decode()


def test_two_hosts_are_refused(client):
    hosts = [(b"host", b"localhost"), (b"host", b"localhost")]
    assert run(client.get("/api/echo", headers=hosts)).status == 403


def test_a_page_of_another_site_is_refused(client):
    def of(site):
        return run(client.get("/api/echo", headers=[(b"sec-fetch-site", site)])).status

    assert of(b"cross-site") == 403
    assert (of(b"same-origin"), of(b"none")) == (200, 200)


@pytest.mark.parametrize(
    "kind",
    [b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data",
     b"application/json; charset=gbk", b"application/jsonp", b"application/json, text/plain"],
)  # fmt: skip
def test_a_body_must_be_said_to_be_json(client, kind):
    reply = run(client.post("/api/echo", b"{}", headers=[(b"content-type", kind)]))
    assert (reply.status, reply.code) == (415, "unsupported_type")


@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"Application/JSON; charset=UTF-8", b'application/json;charset="utf-8"'],
)
def test_json_is_taken_as_it_is_usually_named(client, kind):
    assert run(client.post("/api/echo", b"[1]", headers=[(b"content-type", kind)])).body == b"[1]"


def test_compressed_bodies_are_refused_unread(client):
    reply = run(client.post("/api/echo", b"", headers=[(b"content-encoding", b"gzip")]))
    assert reply.status == 415


def test_a_body_above_its_cap_is_refused(client):
    assert run(client.post("/api/echo", b"x" * 100)).status == 200
    assert run(client.post("/api/echo", b"x" * 101)).status == 413
    assert run(client.post("/api/echo", b"", headers=[(b"content-length", b"101")])).status == 413
    assert (
        run(client.post("/api/echo", b"", headers=[(b"content-length", b"9" * 500)])).status == 413
    )


def test_an_endless_body_is_not_read_to_its_end(client):
    chunks = [b"x" * 40] * 1_000
    assert run(client.ask("POST", "/api/echo", chunks=chunks)).status == 413


def test_a_body_in_pieces_is_put_together(client):
    chunks = [b"[1", b",", b"", b"2]"]
    assert run(client.ask("POST", "/api/echo", chunks=chunks)).body == b"[1,2]"


def test_a_client_that_goes_away_is_no_defect(client, caplog):
    assert run(client.ask("POST", "/api/echo", chunks=[])).status == 400
    assert caplog.text == ""


def test_an_error_says_what_failed_and_what_to_do(client):
    reply = run(client.get("/api/full", headers=[(b"x-request-id", b"abc-1")]))
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert reply.json == {
        "error": {
            "code": "store_full",
            "message": "The log is full.",
            "hint": "Free some disk.",
            "request_id": "abc-1",
        }
    }
    assert run(client.get("/api/twice")).status == 409


def test_a_defect_shows_nothing_of_itself(client, caplog):
    reply = run(client.get("/api/bug"))
    assert (reply.status, reply.code) == (500, "internal")
    assert b"secret" not in reply.body and b"Traceback" not in reply.body
    assert "secret detail" in caplog.text and reply.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("id", ["a", "A-1_2.3", "x" * 64, "0193f0a0-7a5e-7cc3-98c5-0242ac120002"])
def test_a_callers_request_id_comes_back(client, id):
    reply = run(client.get("/api/echo", headers=[(b"x-request-id", id.encode())]))
    assert reply.headers["x-request-id"] == id


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "a\n", "ä", "a;b", "../x", "<script>"])
def test_a_malformed_request_id_is_replaced(client, id):
    reply = run(client.get("/api/echo", headers=[(b"x-request-id", id.encode())]))
    assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["x-request-id"])


def test_every_reply_is_uncached_and_of_a_fixed_type(client):
    for path in ("/api/echo", "/nope", "/api/bug"):
        headers = run(client.get(path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-type"] == "application/json"


def test_unknown_paths_cannot_fill_the_metrics(client, metrics):
    for number in range(50):
        run(client.get(f"/api/{number}"))
    assert metrics.expose().count("route=") == 1
