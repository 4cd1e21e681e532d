"""What no HTTP library sends, against the gateway as `feilun up` starts it."""

import json
import re
import socket
from contextlib import closing, suppress

import pytest

pytestmark = pytest.mark.xdist_group("up")

BODY = b'{"user_id":7}'
CHUNKED = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""Whoever answers this, with 404, has read it as a request."""
POST = b"POST /api/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BEYOND = len(BODY) + len(SECOND)


def exchange(port, sent):
    """Return the statuses of all answers until the server hangs up, and the bytes."""
    got = b""
    with closing(socket.create_connection(("127.0.0.1", port), 10)) as connection:
        connection.sendall(sent)
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                got += part
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got)], got


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 13\r\nContent-Length: %d\r\n\r\n" % BEYOND + BODY,
        b"Content-Length: 13, 13\r\n\r\n" + BODY,
        b"Content-Length: +13\r\n\r\n" + BODY,
        b"Content-Length: -1\r\n\r\n" + BODY,
        b"Content-Length: 0xd\r\n\r\n" + BODY,
        b"Content-Length: 1_3\r\n\r\n" + BODY,
        b"Content-Length: 1 3\r\n\r\n" + BODY,
        b"Content-Length: 18446744073709551629\r\n\r\n" + BODY,
        b"Content-Length : 13\r\n\r\n" + BODY,
        b"X: a\r\n Content-Length: 5\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"X: a\rContent-Length: 5\r\n\r\n" + BODY,
        b"X: a\0b\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"Transfer-Encoding: identity\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
        b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
        b"Transfer-Encoding : chunked\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 13\r\n\r\n" + BODY,
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"d", b"+d", 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"d", b"0xd", 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"d", b"1000000000000000d", 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"\r\n", b"\n"),
        b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED.replace(b"d\r\n", b"d;a\nb\r\n", 1),
    ],
)
def test_what_two_servers_could_read_differently_ends_the_connection(running, headers):
    statuses, got = exchange(running.port, POST + headers + SECOND)
    assert statuses == [400], got


@pytest.mark.parametrize("length", [3, len(CHUNKED), len(CHUNKED) + len(SECOND)])
@pytest.mark.parametrize("first", [b"length", b"chunked"])
def test_a_length_beside_chunks_ends_the_connection(running, length, first):
    """RFC 9112, 6.3: a server may refuse it, and must close the connection."""
    both = [b"Content-Length: %d\r\n" % length, b"Transfer-Encoding: chunked\r\n"]
    headers = b"".join(both if first == b"length" else both[::-1])
    statuses, got = exchange(running.port, POST + headers + b"\r\n" + CHUNKED + SECOND)
    assert statuses == [400], got


def test_a_body_that_nobody_asked_for_is_no_request(running):
    hidden = SECOND.replace(b"second", b"hidden")
    for body in (
        b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n",
    ):
        sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + body + SECOND
        statuses, got = exchange(running.port, sent)
        assert statuses == [200, 404] and b"hidden" not in got, got


def test_two_requests_are_each_answered(running):
    """That the tests above would see a second answer."""
    sent = POST + b"Content-Length: 13\r\n\r\n" + BODY + SECOND
    statuses, got = exchange(running.port, sent)
    assert statuses == [200, 404] and b"second" in got, got


def test_http_2_is_not_spoken(running):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
    statuses, got = exchange(running.port, preface)
    assert statuses == [400], got


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 403),
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example", 200),
        (b"GET /status HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost", 403),
        (b"GET /status HTTP/1.1\r\nHost: localhost@evil.example", 403),
        (b"GET /status HTTP/1.1\r\nHost: localhost:\xb2", 403),
        (b"GET /docs HTTP/1.1\r\nHost: localhost:8600/<script>", 403),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost", 400),
        (b"TRACE /status HTTP/1.1\r\nHost: localhost", 405),
        (b"POST /api/trends HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET", 405),
        (b"GET /api/recommend?user_id=7 HTTP/1.1\r\nHost: localhost\r\nX-Original-URL: /second",
         200),
    ],
)  # fmt: skip
def test_only_the_host_the_path_and_the_method_themselves_count(running, head, status):
    statuses, got = exchange(running.port, head + b"\r\nConnection: close\r\n\r\n")
    assert statuses == [status], got
    assert b"evil" not in got


SECRET = "flk-canary-8d1f0c"


@pytest.mark.parametrize(
    "name", ["Authorization: Bearer ", "Authorization: ", "Cookie: a=", "X-Api-Key: "]
)
def test_what_came_with_a_request_is_in_no_file_no_log_and_no_error(running, name):
    """Headers, and queries whose names or values are wrong: somebody may send a key in them."""
    shop = running
    headers = f"Host: localhost\r\n{name}{SECRET}\r\nConnection: close\r\n"
    described = json.loads(shop.text("/openapi.json"))["paths"]
    for path, methods in described.items():
        for method in methods:
            sent = f"{method.upper()} {path}?key={SECRET}&min_offset=99999999 HTTP/1.1\r\n"
            sent += f"{headers}Request-Timeout: 0.05\r\nContent-Type: application/json\r\n"
            statuses, got = exchange(shop.port, (sent + "Content-Length: 2\r\n\r\n{}").encode())
            assert len(statuses) == 1, got
            assert SECRET.encode() not in got
    assert shop.call("/ready")[0] == 200
    files = [path for path in shop.root.rglob("*") if path.is_file()]
    assert shop.root / "up.txt" in files and len(files) > 5
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
