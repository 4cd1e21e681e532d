"""The tracking client against a real HTTP server on the loopback, well and badly behaved."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from feilun.clock import SystemClock
from feilun.errors import ConfigError, FeilunError, InputError, Unavailable
from feilun.events import client as client_module
from feilun.events.client import Client
from feilun.events.collector import Collector
from feilun.testing.fakes import MemoryLog


class Server(ThreadingHTTPServer):
    """Answers with a collector; ``faults`` are used up first."""

    daemon_threads = True

    def __init__(self, project):
        self.log = MemoryLog()
        self.collector = Collector(project, self.log, SystemClock())
        self.faults: list[str] = []
        self.connections = 0
        self.requests = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        self.server.requests += 1
        self.server.authorization = self.headers["Authorization"]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault == "refuse before storing":
            self.close_connection = True
            return
        if fault.isdigit():
            self._reply(int(fault), b'{"error": "on purpose"}')
            return
        try:
            answers = self.server.collector.accept("unnamed", body)
        except FeilunError as error:
            self._reply(error.status, str(error).encode())
            return
        if fault == "lose the answer":
            self.close_connection = True
            return
        self._reply(200, msgspec.json.encode({"events": answers}))

    def _reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(project, monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(client_module, "LINGER", 0.02)
    server = Server(project)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _line(n):
    return {"user_id": n, "item_id": n, "city": "x"}


def test_what_is_tracked_arrives_once_in_order_over_one_connection(server):
    with Client(server.url, source="shop") as client:
        ids = [client.track("order_line", **_line(n)) for n in range(2_500)]
    records = [record for _, record in server.log.read(0)]
    assert [record.id for record in records] == ids
    assert {record.source for record in records} == {"shop"}
    assert server.connections == 1
    assert server.requests < 100


def test_a_lost_answer_counts_nothing_twice(server):
    server.faults = ["lose the answer", "lose the answer", "503", "refuse before storing", "429"]
    with Client(server.url, source="shop") as client:
        ids = [client.track("order_line", **_line(n)) for n in range(50)]
        client.flush()
    assert Counter(record.id for _, record in server.log.read(0)) == Counter(ids)
    assert server.faults == []


def test_refused_events_are_told_at_the_next_flush(server):
    client = Client(server.url, source="shop")
    client.track("order_line", user_id="seven")
    client.track("order_line", **_line(1))
    with pytest.raises(InputError, match=r"1 events were refused.*user_id"):
        client.flush()
    client.flush()
    client.close()
    assert server.log.end() == 1


def test_a_refused_request_is_told_and_does_not_block_the_next(server):
    server.faults = ["400"]
    client = Client(server.url, source="shop")
    client.track("order_line", **_line(1))
    with pytest.raises(InputError, match="400"):
        client.flush()
    client.track("order_line", **_line(2))
    client.close()
    assert server.log.end() == 1


def test_a_full_buffer_raises_and_drops_nothing(server):
    server.faults = ["503"] * 10_000
    client = Client(server.url, source="shop", buffer=5)
    for n in range(5):
        client.track("order_line", **_line(n))
    with pytest.raises(Unavailable, match="not taken"):
        client.track("order_line", **_line(5))
    with pytest.raises(Unavailable, match="5 events are not sent"):
        client.flush(timeout=0.05)
    server.faults = []
    client.flush()
    client.track("order_line", **_line(5))
    client.close()
    assert server.log.end() == 6


def test_closing_says_what_was_left_behind(server):
    server.faults = ["503"] * 10_000
    client = Client(server.url, source="shop")
    client.track("order_line", **_line(1))
    with pytest.raises(Unavailable, match="1 events"):
        client.close(timeout=0.05)
    with pytest.raises(Unavailable, match="closed"):
        client.track("order_line", **_line(1))


def test_send_answers_each_event(server):
    with Client(server.url, source="shop") as client:
        events = [
            {"event": "order_line", "id": "1", "fields": _line(1)},
            {"event": "order_line", "id": "1", "fields": _line(1)},
            {"event": "nothing", "fields": {}},
        ]
        answers = client.send(events)
        assert [a.status for a in answers] == ["accepted", "duplicate", "bad"]
        assert client.send([]) == []


def test_fields_may_be_called_as_what_every_event_has(server):
    with Client(server.url, source="shop") as client:
        id = client.put("tick", {"id": "mine", "time": 5, "event": "x"})
        with pytest.raises(InputError, match="fields: has no field 'id'"):
            client.flush()
    assert id != "mine"


@pytest.mark.parametrize(("key", "sent"), [("k-1", "Bearer k-1"), ("", None), (None, "Bearer e")])
def test_a_key_goes_into_a_header_and_nowhere_else(server, monkeypatch, key, sent):
    monkeypatch.setenv("FEILUN_KEY", "e")
    with Client(server.url, source="shop", key=key) as client:
        client.send([{"event": "tick", "fields": {}}])
    assert server.authorization == sent


@pytest.mark.parametrize("key", ["a\nb", "\u98de"])
def test_what_is_no_key_is_refused(server, key):
    with pytest.raises(ConfigError) as caught:
        Client(server.url, source="shop", key=key)
    assert key not in str(caught.value)


def test_bodies_stay_below_the_cap(server):
    with Client(server.url, source="shop") as client:
        client.send([{"event": "tick", "fields": {"note": "x" * 8_000}}] * 500)
    assert server.log.end() == 500
    assert server.requests >= 4


def test_nobody_there(server):
    client = Client("http://127.0.0.1:1", source="shop")
    with pytest.raises(Unavailable, match="cannot be reached"):
        client.send([{"event": "tick", "fields": {}}])
    client.close()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8600", "ftp://x", "http://", "http://u:p@x", "http://x?key=k"]
)
def test_what_is_not_an_address_is_refused(url):
    with pytest.raises(ConfigError):
        Client(url, source="shop")
