"""The gateway as it runs: Granian, LMDB, SQLite, real sockets; and what a kill leaves behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from feilun.features.engine import Engine
from feilun.models.bundle import Bundle, columns_of, scorer_file, write_bundle
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA

HERE = Path(__file__).parent


class Server:
    """The served shop, and ways to ask, start and kill it."""

    def __init__(self, root, workers=1):
        self.root = root
        self.workers = workers
        self.env = {**os.environ, "FEILUN_TEST_ROOT": str(root), "PYTHONPATH": str(HERE)}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "served_shop.py"), str(self.port),
             str(self.workers)],
            env=self.env,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("The gateway did not start.")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(self, method, path, body=None, headers=None, connection=None):
        if connection is None:
            with closing(self.connect()) as fresh:
                return self.ask(method, path, body, headers, fresh)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        connection.request(method, path, raw, {**sent, **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read()

    def raw(self, request):
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(request)
            return connection.recv(65_536)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


@contextmanager
def serving(root, workers=1):
    """Fill a shop with some orders and serve it."""
    sys.path.insert(0, str(HERE))
    try:
        from served_shop import open_parts

        from conftest import order_record
    finally:
        sys.path.remove(str(HERE))
    parts = open_parts(root)
    now = time.time_ns() // 1_000
    spec = parts.project.events["order"]
    orders = [(user, item) for user in (1, 2, 3) for item in range(1, 6) for _ in range(item)]
    parts.log.append(
        [order_record(spec, n, user, item, 1, now - 10_000_000 + n)
         for n, (user, item) in enumerate(orders)]
    )  # fmt: skip
    engine = Engine(parts.project, parts.log, parts.store)
    while engine.run_once():
        pass
    parts.log.close()
    parts.store.close()
    running = Server(root, workers)
    running.releases = parts.releases
    running.project = parts.project
    running.events = len(orders)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def write_version(server, version):
    data = json.dumps([[0, 0, version], ""]).encode()
    spec = server.project.models["ranker"]
    bundle = Bundle("ranker", columns_of(spec, {}), "item_id", scorer_file(data), "auc", {}, "d")
    return write_bundle(server.root / "bundles", bundle, data)


def release(server, version):
    digest = write_version(server, version)
    return server.releases.append(
        "ranker", version, digest, action="promote", offset=0, at=time.time_ns() // 1_000,
        turn=None, by="test",
    )  # fmt: skip


def predictions(server):
    from feilun.adapters.lmdb import LmdbEventLog

    with closing(LmdbEventLog(server.root / "log")) as log:
        records = [r for _, r in log.read(0, 100_000) if r.schema == PREDICTION_SCHEMA]
    return [decode_prediction(record.body) for record in records]


def taken_up(server, sequence):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if sequence in server.releases.serving("ranker", 0).values():
            return
        time.sleep(0.005)
    raise AssertionError("The release was not taken up.")


def test_versions_swap_under_load_without_a_failed_request(server):
    taken_up(server, release(server, 1).sequence)
    replies, problems, done = [], [], threading.Event()

    def load(user):
        with closing(server.connect()) as connection:
            while not done.is_set():
                path = f"/api/recommend?user_id={user}"
                try:
                    status, body = server.ask("GET", path, connection=connection)
                except (OSError, http.client.HTTPException) as error:
                    problems.append(error)
                    return
                (replies if status == 200 else problems).append(body)

    threads = [threading.Thread(target=load, args=(user,)) for user in (1, 2, 3, 1)]
    for thread in threads:
        thread.start()
    for version in (2, 3, 4):
        taken_up(server, release(server, version).sequence)
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    answered = {json.loads(body)["request_id"]: json.loads(body)["version"] for body in replies}
    assert set(answered.values()) == {1, 2, 3, 4}
    logged = {p.request_id: p for p in predictions(server)}
    assert answered.keys() <= logged.keys()
    import numpy as np

    for id, version in answered.items():
        matrix = np.frombuffer(logged[id].vectors, np.float32).reshape(-1, 3)
        scores = np.frombuffer(logged[id].scores, np.float64)
        assert logged[id].version == version
        assert scores.tolist() == (matrix[:, 2] * float(version)).tolist()


def roll_out(server, stage, percent, version, salt):
    release, known = server.releases.current("ranker"), server.releases.rollout("ranker")
    return server.releases.append_rollout(
        "ranker", stage, version, write_version(server, version), percent=percent, salt=salt,
        release=release.sequence, after=known.sequence if known else 0, offset=0,
        at=time.time_ns() // 1_000, by="test",
    )  # fmt: skip


def seconds_until_all(server, ask, sequence):
    """Return how long it takes until every worker has come to ``sequence``."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        reached = ask("ranker", time.time_ns() // 1_000 - 5_000_000)
        if len(reached) == server.workers and min(reached.values()) >= sequence:
            return time.monotonic() - started
        time.sleep(0.005)
    raise AssertionError("Not every worker followed.")


def test_rollouts_and_releases_at_peak_fail_nothing_and_mix_nothing(tmp_path):
    """Two workers under load; each change is with both within a second.

    Version v ranks by weight v, so that the scores tell which version an answer is of.
    """
    with serving(tmp_path, workers=2) as server:
        releases = server.releases
        first = release(server, 1)
        seconds_until_all(server, releases.serving, first.sequence)
        users, replies, problems, done = range(1, 41), {}, [], threading.Event()

        def load(part):
            with closing(server.connect()) as connection:
                while not done.is_set():
                    for user in users[part::4]:
                        path = f"/api/strict?user_id={user}"
                        try:
                            status, body = server.ask("GET", path, connection=connection)
                        except (OSError, http.client.HTTPException) as error:
                            problems.append(error)
                            return
                        if status == 200:
                            reply = json.loads(body)
                            replies[reply["request_id"]] = reply
                        else:
                            problems.append(body)

        threads = [threading.Thread(target=load, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        entries, took = {}, []
        for stage, percent, version, salt in (
            ("shadow", 0, 2, "a"), ("canary", 25, 2, "a"), ("canary", 60, 2, "a"),
            ("off", 0, 2, "a"), ("canary", 50, 3, "b"), ("full", 100, 3, "b"),
        ):  # fmt: skip
            entry = roll_out(server, stage, percent, version, salt)
            took.append(seconds_until_all(server, releases.following, entry.sequence))
            entries[entry.sequence] = entry
            time.sleep(0.1)
        for version in (3, 1, 2):  # the challenger is promoted, rolled back, replaced
            entry = release(server, version)
            took.append(seconds_until_all(server, releases.serving, entry.sequence))
            time.sleep(0.1)
        done.set()
        for thread in threads:
            thread.join()
        server.stop()
        assert problems == []
        assert max(took) < 1.0, took
        check_answers(replies, predictions(server), entries)


def check_answers(replies, logged, entries):
    """Check that each answer is of one version, the one that the split gave it."""
    import numpy as np

    from feilun.records.split import gets_challenger

    logged = {prediction.request_id: prediction for prediction in logged}
    assert replies.keys() <= logged.keys()
    assert {reply["version"] for reply in replies.values()} == {1, 2, 3}
    arms = set()
    for id, reply in replies.items():
        prediction = logged[id]
        assert prediction.version == reply["version"]
        matrix = np.frombuffer(prediction.vectors, np.float32).reshape(-1, 3)
        scores = np.frombuffer(prediction.scores, np.float64)
        assert scores.tolist() == (matrix[:, 2] * float(prediction.version)).tolist()
        entry = entries.get(prediction.rollout)
        unit = f"user_id={prediction.keys['user_id']}"
        tried = entry is not None and gets_challenger(entry.salt, unit, entry.percent)
        assert prediction.arm == ("challenger" if tried else "champion")
        if tried:
            assert prediction.version == entry.version
        arms.add((prediction.rollout, prediction.arm))
    assert len(arms) >= 8  # both arms of each canary, one of the others


def test_a_gateway_killed_while_it_answers_keeps_each_answer_once(server):
    """Whatever was answered is in the log; what is asked again under its id is there once."""
    asked, answered = [], set()

    def load(worker):
        for number in range(400):
            id = f"kill-{worker}-{number}"
            asked.append(id)
            try:
                with closing(server.connect()) as connection:
                    headers = {"X-Request-Id": id}
                    path = "/api/recommend?user_id=1"
                    if server.ask("GET", path, headers=headers, connection=connection)[0] == 200:
                        answered.add(id)
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=load, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    server.kill()
    for thread in threads:
        thread.join()
    ids = [prediction.request_id for prediction in predictions(server)]
    assert answered and answered <= set(ids)
    server.start()
    for id in asked:
        status, body = server.ask("GET", "/api/recommend?user_id=1", headers={"X-Request-Id": id})
        assert status == 200, body
    ids = [p.request_id for p in predictions(server) if p.request_id.startswith("kill-")]
    assert sorted(ids) == sorted(asked)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/../api/recommend", 404),
        ("/api/%2e%2e/status", 404),
        ("/api/%252e%252e/status", 404),
        ("/api/..%2fstatus", 404),
        ("/api/..%5cstatus", 404),
        ("/static/../../etc/passwd", 404),
        ("//status", 404),
        ("/status/", 404),
        ("/status%00", 404),
        ("/%73tatus", 200),
    ],
)
def test_paths_are_decoded_once_and_compared_whole(server, path, status):
    reply = server.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert int(reply.split()[1]) == status


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /status HTTP/1.0\r\n\r\n", 403),
        (b"GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n", (200, 403)),
        (b"POST /api/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 415),
        (b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
         b"Content-Length: 999999999999\r\n\r\n{}", 413),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 2_000_000 + b"\r\n\r\n",
         (400, 431)),
    ],
)  # fmt: skip
def test_raw_requests_are_answered_as_they_deserve(server, request_, status):
    try:
        reply = server.raw(request_)
    except ConnectionError:
        reply = b"HTTP/1.1 400 closed"
    expected = status if isinstance(status, tuple) else (status,)
    assert int(reply.split()[1]) in expected
    assert server.ask("GET", "/health")[0] == 200


def test_bad_bodies_leave_it_as_it_was(server):
    before = json.loads(server.ask("GET", "/status")[1])["log_end"]
    for body in (
        b"",
        b"{",
        b"[" * 900_000,
        b"\xff" * 100,
        b'{"user_id": 1e400}',
        b'{"user_id":' * 9,
    ):
        status, reply = server.ask("POST", "/api/recommend", body)
        assert status in (400, 413)
        assert "Traceback" not in reply.decode()
    assert json.loads(server.ask("GET", "/status")[1])["log_end"] == before


def test_an_event_is_seen_by_the_read_that_asks_for_it(server):
    """The engine folds in another process; here this one plays it, on the same files."""
    event = {"event": "order", "id": "rw-1", "fields": {"user_id": 77, "item_id": 1, "place": 2}}
    status, body = server.ask("POST", "/api/events", event)
    offset = json.loads(body)["events"][0]["offset"]
    assert status == 200
    replies = []
    path = f"/api/user_profile?user_id=77&min_offset={offset}"
    reader = threading.Thread(target=lambda: replies.append(server.ask("GET", path)))
    reader.start()
    from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore

    with (
        closing(LmdbEventLog(server.root / "log")) as log,
        closing(LmdbOnlineStore(server.root / "tiles")) as store,
    ):
        engine = Engine(server.project, log, store)
        while engine.run_once():
            pass
    reader.join()
    ((status, body),) = replies
    assert status == 200, body
    assert json.loads(body)["features"]["orders"] == 1
