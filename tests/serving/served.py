"""The gateway as it runs, for tests of it: Uvicorn, LMDB, SQLite, real sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

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
        with (self.root / "server.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "served_shop.py"), str(self.port),
                 str(self.workers)],
                env=self.env,
                start_new_session=True,
                stdout=output,
                stderr=output,
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
    """Write a version that scores an item's heat times its number: its scores tell which it is."""
    data = json.dumps([[0, version, 0], ""]).encode()
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
        records = [r for _, r in log.read(0, 1_000_000) if r.schema == PREDICTION_SCHEMA]
    return [decode_prediction(record.body) for record in records]


def seconds_until_all(server, ask, sequence):
    """Return how long it takes until every worker has come to ``sequence``."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        reached = ask("ranker", time.time_ns() // 1_000 - 5_000_000)
        if len(reached) == server.workers and min(reached.values()) >= sequence:
            return time.monotonic() - started
        time.sleep(0.005)
    raise AssertionError("Not every worker followed.")
