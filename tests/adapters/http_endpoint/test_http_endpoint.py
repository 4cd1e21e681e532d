"""Endpoints: asked as their protocol wants it, within a deadline, at no other address."""

import logging
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feilun.adapters.http_endpoint import EndpointLoader, describe, loader
from feilun.errors import InputError, ModelError
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam

sys.path.insert(0, str(Path(__file__).parent))
from endpoint_server import serving, url_of

ROWS = np.array([[1, 2], [np.nan, 0], [3, np.inf]], np.float32)
SCORES = [5.0, 0.5, 4.0]


@pytest.fixture
def server():
    with serving() as server:
        yield server


def scorer_of(url, *, private=True, secret="", columns=2):
    data = describe(url, columns, private=private, secret=secret)
    return EndpointLoader().load(data, columns)


@pytest.mark.parametrize("path", ["/score", "/invocations", "/v2/models/m/infer"])
class TestEndpoint(ScorerLoaderExam):
    @pytest.fixture(autouse=True)
    def answering(self, server, path):
        self.url = url_of(server, path)

    def make(self):
        return EndpointLoader()

    def sample(self):
        x = np.random.default_rng(1).normal(size=(300, COLUMNS)).astype(np.float32)
        x[5, 1] = np.nan
        expected = np.nan_to_num(x, nan=0.5).astype(float) @ np.arange(1.0, COLUMNS + 1)
        return Sample(describe(self.url, COLUMNS, private=True, secret=""), x, expected, (), 1e-6)


def test_each_protocol_is_asked_as_it_wants(server):
    for path in ("/score", "/invocations", "/v2/models/m/infer"):
        assert scorer_of(url_of(server, path)).score(ROWS).tolist() == SCORES
    asked = [body for _, _, body in server.asked]
    rows = [[1.0, 2.0], [None, 0.0], [3.0, None]]
    assert asked[0] == rows
    assert asked[1] == {"inputs": rows}
    assert asked[2]["inputs"][0]["shape"] == [3, 2]
    assert asked[2]["inputs"][0]["data"] == [*rows[0], *rows[1], *rows[2]]


def test_connections_are_kept_and_made_anew_when_they_were_closed(server):
    scorer = scorer_of(url_of(server))
    for _ in range(5):
        scorer.score(ROWS)
    assert len(server.peers) == 1
    connection = scorer._idle.get_nowait()
    connection.sock.shutdown(socket.SHUT_RDWR)  # as a server does that is restarted
    scorer._idle.put_nowait(connection)
    assert scorer.score(ROWS).tolist() == SCORES
    assert len(server.peers) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", "too slow"),
        ("drip", "too slow"),
        ("hang up", "hung up"),
        ("redirect", "status 302.*not followed"),
        ((500, b"[1, 2, 3]"), "status 500"),
        ((200, b"[1, 2]"), "one number for each of 3 rows"),
        ((200, b'["a", 1, 2]'), "one number for each"),
        ((200, b"[[1, 2], [1, 2], [1, 2]]"), "one number for each"),
        ((200, b"[true, 1, 2]"), "one number for each"),
        ((200, b"{}"), "one number for each"),
        ((200, b"<html>"), "not what matrix answers"),
        ((200, b"\xff\xfe"), "not what matrix answers"),
        ((200, b"[" * 100_000), "not what matrix answers"),
        ((200, b" " * 3_000), "not what matrix answers"),
    ],
)
def test_whatever_it_does_is_a_model_error_in_time(server, fault, reason, monkeypatch):
    monkeypatch.setattr(loader, "DEADLINE_SECONDS", 0.3)
    scorer = scorer_of(url_of(server))
    scorer.score(ROWS)  # also over a connection that was kept
    server.faults["/score"] = fault
    began = time.monotonic()
    with pytest.raises(ModelError, match=reason):
        scorer.score(ROWS)
    assert time.monotonic() - began < 3
    if fault == "redirect":
        assert len(server.asked) == 2
    server.faults.clear()
    assert scorer.score(ROWS).tolist() == SCORES


def test_a_reply_without_end_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(loader, "MAX_REPLY", 1000)
    server.faults["/score"] = (200, b" " * 5_000)
    with pytest.raises(ModelError, match="more than 1000 bytes"):
        scorer_of(url_of(server)).score(ROWS)


def test_nobody_there(server):
    url = url_of(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match="cannot be reached"):
        scorer_of(url).score(ROWS)


def resolve_to(monkeypatch, *addresses, port):
    def answer(host, _, **options):
        kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (each, port))
            for kind, each in zip(kinds, addresses, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.8",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "fd00:ec2::254",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_private_addresses_are_not_asked_unless_declared(server, monkeypatch, address):
    port = server.server_address[1]
    resolve_to(monkeypatch, address, port=port)
    with pytest.raises(ModelError, match="no public address"):
        scorer_of(f"https://models.example:{port}/score", private=False).score(ROWS)
    # One public address among them does not help.
    resolve_to(monkeypatch, "93.184.216.34", address, port=port)
    with pytest.raises(ModelError, match="no public address"):
        scorer_of(f"https://models.example:{port}/score", private=False).score(ROWS)
    assert not server.asked


NEVER_ASKED = ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"]
METADATA = ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"]


@pytest.mark.parametrize("address", [*NEVER_ASKED, *METADATA, "::ffff:100.100.100.200"])
def test_some_addresses_are_never_asked(monkeypatch, address):
    resolve_to(monkeypatch, address, port=80)
    with pytest.raises(ModelError, match="never connected to"):
        scorer_of("http://models.example/score").score(ROWS)


def test_where_one_address_does_not_answer_the_next_is_asked(server, monkeypatch):
    port = server.server_address[1]
    resolve_to(monkeypatch, "::1", "127.0.0.9", "127.0.0.1", port=port)
    scorer = scorer_of(f"http://models.example:{port}/score")
    assert scorer.score(ROWS).tolist() == SCORES
    resolve_to(monkeypatch, "::1", "127.0.0.9", port=port)
    with pytest.raises(ModelError, match="cannot be reached"):
        scorer_of(f"http://models.example:{port}/score").score(ROWS)


def test_the_address_that_was_checked_is_the_one_that_is_asked(server, monkeypatch):
    port = server.server_address[1]
    resolve_to(monkeypatch, "127.0.0.1", port=port)
    assert scorer_of(f"http://models.example:{port}/score").score(ROWS).tolist() == SCORES
    _, headers, _ = server.asked[0]
    assert headers["Host"] == f"models.example:{port}"


def test_a_proxy_of_the_environment_is_not_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert scorer_of(url_of(server)).score(ROWS).tolist() == SCORES


def test_a_certificate_of_nobody_is_refused(tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*command, *files], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not there to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with serving(wrap=lambda s: context.wrap_socket(s, server_side=True)) as server:
        with pytest.raises(ModelError, match=r"cannot be reached: .*CERTIFICATE_VERIFY_FAILED"):
            scorer_of(url_of(server, scheme="https", host="localhost")).score(ROWS)
        assert not server.asked


def test_the_secret_comes_from_the_environment_and_goes_nowhere_else(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    data = describe(url_of(server), 2, private=True, secret="SCORING_AUTHORIZATION")
    scorer = EndpointLoader().load(data, 2)
    with pytest.raises(ModelError, match="SCORING_AUTHORIZATION is not set"):
        scorer.score(ROWS)
    monkeypatch.setenv("SCORING_AUTHORIZATION", "Bearer s3cret")
    assert scorer.score(ROWS).tolist() == SCORES
    assert server.asked[0][1]["Authorization"] == "Bearer s3cret"
    server.faults["/score"] = (500, b"s3cret")
    with pytest.raises(ModelError) as failed:
        scorer.score(ROWS)
    monkeypatch.setenv("SCORING_AUTHORIZATION", "Bearer s3cret\r\nX: y")
    with pytest.raises(ModelError) as refused:
        scorer.score(ROWS)
    told = f"{failed.value}{refused.value}{caplog.text}{data!r}{scorer!r}"
    assert "s3cret" not in told


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://user:pw@models.example/x",
        "https://models.example/x#y",
        "https://models.example:99999/x",
        "https://models.example/a b",
        "https://models.example\\@other/",
        "https://模型.example/",
        "http://models.example/x",
    ],
)
def test_urls_that_mean_something_else_are_refused(url):
    with pytest.raises(InputError, match="cannot be adopted"):
        describe(url, 2, private=False, secret="")
    data = msgspec.json.encode({"url": url, "protocol": "matrix", "columns": 2})
    with pytest.raises(ModelError, match="cannot be asked"):
        EndpointLoader().load(data, 2)


def test_a_secret_that_is_no_variable_is_refused():
    with pytest.raises(InputError, match="name of a variable"):
        describe("https://models.example/x", 2, private=False, secret="Bearer abc")
