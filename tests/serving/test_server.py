"""The gateway as it runs: Uvicorn, LMDB, SQLite, real sockets; and what a kill leaves behind."""

import http.client
import json
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from feilun.features.engine import Engine

sys.path.insert(0, str(Path(__file__).parent))

from served import predictions, release, seconds_until_all, serving, write_version


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


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
        assert scores.tolist() == (matrix[:, 1] * float(version)).tolist()


def roll_out(server, stage, percent, version, salt):
    release, known = server.releases.current("ranker"), server.releases.rollout("ranker")
    return server.releases.append_rollout(
        "ranker", stage, version, write_version(server, version), percent=percent, salt=salt,
        release=release.sequence, after=known.sequence if known else 0, offset=0,
        at=time.time_ns() // 1_000, by="test",
    )  # fmt: skip


def test_rollouts_and_releases_at_peak_fail_nothing_and_mix_nothing(tmp_path):
    """Two workers under load; each change is with both within a second.

    Version v scores by weight v, so that the scores tell which version an answer is of.
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
        assert scores.tolist() == (matrix[:, 1] * float(prediction.version)).tolist()
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
