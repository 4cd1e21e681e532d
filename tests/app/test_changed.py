"""Definitions change under a version in production: it answers on, by what it was trained on."""

import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feilun.adapters.lmdb import LmdbEventLog
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA

pytest.importorskip("mlflow")
pytestmark = pytest.mark.xdist_group("up")

FEATURES = "    clicks = fl.count(Click)\n    top_items"
MODEL = "features=[UserItem.clicks, UserProfile.clicks]"
TRAINED = ("7d", "where=Click.item_id >= 25", "fl.last(Click.item_id)", ", UserProfile.latest")
CHANGED = ("2d", "where=Click.item_id < 25", "fl.last(Click.item_id, n=3)", "")
AGAIN = ("30d", "where=Click.item_id == 7", "fl.max(Click.item_id)", ", UserProfile.latest")
COLUMNS = ["recent", "high", "latest"]


class Changing:
    """A shop, its definitions, and what a customer did by hand, so that values can be told."""

    def __init__(self, shop):
        self.shop = shop
        self.path = shop.root / "shop.py"
        self.base = self.path.read_text().replace("fl.better(", "fl.no_worse(margin=1.0, ")
        assert FEATURES in self.base
        assert MODEL in self.base
        self.clicks = []
        self.offset = 0

    def define(self, window, where, latest, also):
        lines = [
            f'    recent = fl.count(Click, window="{window}")',
            f"    high = fl.count(Click, {where})",
            f"    latest = {latest}",
            FEATURES,
        ]
        features = f"features=[UserProfile.recent, UserProfile.high{also}, UserItem.clicks]"
        self.path.write_text(self.base.replace(FEATURES, "\n".join(lines)).replace(MODEL, features))

    def click(self, *items):
        for item in items:
            event = {"event": "click", "fields": {"user_id": 3, "item_id": item}}
            status, reply = self.shop.call("/api/events", event)
            assert status == 200, reply
            self.offset = reply["events"][0]["offset"]
            self.clicks.append(item)

    def earlier(self, items):
        """Import what lies within seven days and not within two."""
        when = datetime.now(UTC) - timedelta(days=4)
        lines = [
            f"3,{item},{(when + timedelta(hours=n)).isoformat()}" for n, item in enumerate(items)
        ]
        (self.shop.root / "earlier.csv").write_text("\n".join(["user_id,item_id,when", *lines]))
        self.shop.run("import", "earlier.csv", "--event", "click", "--time", "when")
        self.clicks += items

    def ask(self, path="/api/recommend"):
        status, reply = self.shop.call(f"{path}?user_id=3&min_offset={self.offset}")
        assert status == 200, reply
        return reply

    def profile(self):
        return self.ask("/api/user_profile")

    def as_trained(self, past):
        """The columns of version 1 by hand; of ``past``, what the history had, no window tells."""
        high = sum(item >= 25 for item in (*past, *self.clicks))
        return [len(self.clicks), high, self.clicks[-1]]

    def predictions(self):
        with closing(LmdbEventLog(self.shop.root / ".feilun/log")) as log:
            found = [record.body for _, record in log.read(0, log.end())
                     if record.schema == PREDICTION_SCHEMA]  # fmt: skip
        return [decode_prediction(body) for body in found]


def listens(shop):
    try:
        return shop.status("/ready") == 200
    except OSError:
        return False


@contextmanager
def serving(shop, part, until):
    """Run one part alone."""
    path = shop.root / f"{part}.txt"
    with path.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "feilun", "serve", part],
            cwd=shop.root, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        lock = shop.root / f".feilun/run/{part}.lock"

        def ready():
            assert process.poll() is None, path.read_text()
            started = lock.exists() and lock.read_text().startswith(f"{process.pid} ready")
            return started and (part != "gateway" or listens(shop))

        try:
            until(ready)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def matrix(prediction):
    return np.frombuffer(prediction.vectors, np.float32).reshape(len(prediction.items), -1)


def test_a_version_answers_on_by_what_it_was_trained_on(shop, start, until):
    world = Changing(shop)
    world.define(*TRAINED)
    clicks = shop.write_history(users=30, days=12)
    shop.run("import", clicks, "--event", "click", "--time", "when")
    lines = clicks.read_text().splitlines()[1:]
    past = [int(line.split(",")[1]) for line in lines if line.startswith("3,")]
    world.earlier([30, 10])
    expected = []

    def answers(version=1, degraded=()):
        reply = world.ask()
        assert (reply["version"], reply["degraded"]) == (version, list(degraded))
        expected.append((version, world.as_trained(past)))

    with start(shop):
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        turn = shop.json("train", "ranker")
        assert turn["state"] == "promoted", turn
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        world.click(40)
        answers()
    world.define(*CHANGED)
    with serving(shop, "engine", until), serving(shop, "gateway", until):
        world.click(31)
        answers()
        until(lambda: not world.profile()["degraded"])
        features = world.profile()["features"]
        assert features["recent"] == 2  # of today's definitions
        assert features["latest"] == [31, 40, 10]
        assert shop.call("/status")[1]["models"]["ranker"]["refused"] is None
        answers()
    world.define(*AGAIN)
    with serving(shop, "gateway", until):
        answers()
        reply = world.profile()
        assert reply["degraded"] == [
            "changed:user_profile:recent",
            "changed:user_profile:high",
            "missing:user_profile:latest",  # a list was its last meaning
        ]
        low = sum(item < 25 for item in (*past, *world.clicks))
        assert (reply["features"]["recent"], reply["features"]["high"]) == (2, low)
        assert reply["features"]["latest"] is None
        with serving(shop, "engine", until):
            world.click(2, 45)
            answers()
            until(lambda: not world.profile()["degraded"])
            assert world.profile()["features"]["latest"] == max((*past, *world.clicks))
            answers()
    with start(shop):
        answers()
        second = shop.json("train", "ranker")
        assert (second["state"], second["challenger"]["version"]) == ("promoted", 2), second
        assert second["skew"]["left_out"] == {}
        assert second["skew"]["mismatched"] == {}
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 2)
        assert world.ask()["version"] == 2
        assert world.ask()["degraded"] == []
        shop.run("rollback", "ranker")
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        world.click(50)
        answers()
    predictions = world.predictions()
    served = [prediction for prediction in predictions if prediction.version == 1]
    assert len({prediction.columns for prediction in served}) == 1
    assert len({prediction.columns for prediction in predictions}) == 2
    assert [matrix(each)[0, :3].tolist() for each in served] == [values for _, values in expected]
