"""What a connection is spared: endless heads, requests that never end, one connection too many."""

import asyncio
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from feilun.app import http_connection, http_server

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


class Echo:
    """An application that answers with the body, or at once where the path says so."""

    async def __call__(self, scope, receive, send):
        body, more = b"", scope["path"] != "/at-once"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def served():
    """Serve the echo on a thread; yields its address and the server."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    server, listener = http_server._server(Echo()), http_server._listening("127.0.0.1", 0)

    async def run():
        loop.call_soon(ready.set)
        await server.serve([listener])

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    address = listener.getsockname()
    thread.start()
    ready.wait(10)
    try:
        yield address, server
    finally:
        server.should_exit = True
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def echo():
    with served() as running:
        yield running


def connect(echo):
    return socket.create_connection(echo[0], 10)


def answered(connection):
    """Send a request; return the whole reply."""
    connection.sendall(REQUEST)
    return until(connection, b"hello")


def until(connection, ending, count=1):
    received = b""
    while received.count(ending) < count:
        part = connection.recv(1 << 20)
        assert part, received
        received += part
    return received


def told(connection, parts):
    """Send parts; return all that comes until the server closes."""
    with suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65_536):
            received += part
    return received


def test_requests_are_answered_one_after_another_on_a_connection(echo):
    with connect(echo) as connection:
        for _ in range(3):
            assert answered(connection)


def test_requests_in_any_pieces_are_answered(echo):
    for size in (1, 2, 7, len(REQUEST) + 3):
        stream = REQUEST * 3
        with connect(echo) as connection:
            connection.settimeout(10)
            for at in range(0, len(stream), size):
                connection.sendall(stream[at : at + size])
            received = until(connection, b"hello", 3)
            assert received.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 1000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 1000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200,
        b"\r\n" * 500,
    ],
)
def test_a_head_without_an_end_is_not_kept(echo, endless):
    rest = endless if endless.isspace() else endless[-12:] * 100
    with connect(echo) as connection:
        received = told(connection, [endless, *[rest] * 5_000])
    assert received[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")
    with connect(echo) as connection:
        assert answered(connection)


def test_long_bodies_are_no_heads(echo):
    body = b"b" * (4 * http_connection.HEAD_BYTES)
    with connect(echo) as connection:
        for _ in range(2):
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            assert until(connection, body).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (b"", []),
        (b"GET / HTTP/1.1\r\nHost", [b"408"]),
        (LONG, [b"408"]),
        (LONG.replace(b"/", b"/at-once", 1), [b"200"]),
        (REQUEST + LONG, [b"200", b"408"]),
    ],
)
def test_nobody_is_awaited_for_ever(monkeypatch, begun, said):
    monkeypatch.setattr(http_connection, "REQUEST_SECONDS", 0.3)
    with served() as echo, connect(echo) as connection:
        connection.sendall(begun)
        began, ended = time.monotonic(), threading.Event()

        def trickle():  # a byte now and then buys no time
            with suppress(OSError):
                while begun and not ended.wait(0.02):
                    connection.sendall(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        received = told(connection, [])
        ended.set()
        thread.join()
        assert time.monotonic() - began < 5
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == said


def test_an_answer_may_take_longer_than_its_request(monkeypatch):
    monkeypatch.setattr(http_connection, "REQUEST_SECONDS", 0.05)
    answer = Echo.__call__

    async def slow(self, scope, receive, send):
        await asyncio.sleep(0.3)
        await answer(self, scope, receive, send)

    monkeypatch.setattr(Echo, "__call__", slow)
    with served() as echo, connect(echo) as connection:
        assert answered(connection)


def test_one_connection_too_many_is_told_so(monkeypatch):
    monkeypatch.setattr(http_connection, "CONNECTIONS", 2)
    with served() as echo, connect(echo) as first, connect(echo) as second:
        for each in (first, second):
            assert answered(each)
        with connect(echo) as third:
            reply = told(third, [])
        assert reply.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in reply
        first.close()
        deadline = time.monotonic() + 10
        while len(echo[1].server_state.connections) > 1 and time.monotonic() < deadline:
            time.sleep(0.005)
        with connect(echo) as fourth:
            assert answered(fourth)
