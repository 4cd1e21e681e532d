"""A small project on disk, and the command line as users run it: in a process of its own."""

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DEFINITIONS = '''
"""A tiny shop."""

import feilun as fl

settings = fl.Settings(timezone="Asia/Shanghai", owner="tests")

user = fl.Entity("user_id", int)
item = fl.Entity("item_id", int)


class Click(fl.Event):
    """A customer looked at an item."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    """How a customer looks around."""

    clicks = fl.count(Click)
    top_items = fl.top(Click.item_id, n=20)


class UserItem(fl.FeatureView, entity=(user, item)):
    """What a customer and an item have had with each other."""

    clicks = fl.count(Click)


class Trends(fl.FeatureView):
    """Everybody."""

    popular = fl.top(Click.item_id, n=10)


@fl.model(
    features=[UserItem.clicks, UserProfile.clicks],
    label=fl.outcome(Click, within="30m"),
    metric="precision@10",
)
def ranker(data: fl.Dataset):
    """Will it be clicked?"""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=5, min_child_samples=1, verbose=-1).fit(data.x, data.y)


@fl.capability(
    "/api/recommend",
    model=ranker,
    candidates=[UserProfile.top_items, Trends.popular],
    fallback=Trends.popular,
)
def recommend(scored: fl.Scored, user_id: int, k: int = 10) -> list[int]:
    """Items for a customer."""
    return scored.top(k)


loop = fl.Flywheel(ranker, turn=fl.after(100_000), gate=fl.better(confidence=0.95))
'''


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Shop:
    """A project's folder, and what its commands say."""

    root: Path
    port: int
    environment: dict = field(default_factory=dict)

    def run(self, *arguments, code=0, cwd=None):
        """Run ``feilun …`` to its end; fail if its exit code is another, or a traceback shows."""
        words = [str(argument) for argument in arguments]
        started = words[:1] in (["up"], ["serve"]) or self.environment
        result = (self._spawn if started else self._call)(words, cwd or self.root)
        assert "Traceback" not in result.stdout + result.stderr, result.stderr
        assert result.returncode == code, (result.stdout, result.stderr)
        return result

    def _spawn(self, words, cwd):
        return subprocess.run(
            [sys.executable, "-m", "feilun", *words],
            cwd=cwd,
            env={**os.environ, **self.environment},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    def _call(self, words, cwd):
        """Run it in this process, which spares a second of imports for each command."""
        from feilun.cli.main import main

        out, err, before = io.StringIO(), io.StringIO(), (Path.cwd(), sys.argv)
        try:
            os.chdir(cwd)
            sys.argv = ["feilun", *words]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as done:
            return subprocess.CompletedProcess(words, done.code, out.getvalue(), err.getvalue())
        finally:
            os.chdir(before[0])
            sys.argv = before[1]

    def json(self, *arguments):
        """Run a command with ``--json`` and return what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def write_history(self, users, days):
        """Write clicks of customers who each have five favourites of fifty items; return where."""
        chance = random.Random(1)
        favourites = {user: chance.sample(range(50), 5) for user in range(users)}
        lines = [
            f"{user},{item},2026-03-{day:02}T{user % 24:02}:00:00Z"
            for day in range(1, days + 1)
            for user, liked in favourites.items()
            for item in sorted({*chance.sample(liked, 3), chance.randrange(50)})
        ]
        path = self.root / "clicks.csv"
        path.write_text("\n".join(["user_id,item_id,when", *lines]))
        return path

    def text(self, path):
        """Return what the gateway answers to a GET, as text."""
        return self.ask(path)[2].decode()

    def call(self, path, body=None, key=None, **headers):
        """Ask the gateway; return the status and the decoded reply."""
        status, _, raw = self.ask(path, body, key, **headers)
        return status, json.loads(raw)

    def status(self, path, key=None, **headers):
        """Ask the gateway; return the status."""
        return self.ask(path, None, key, **headers)[0]

    def ask(self, path, body=None, key=None, **headers):
        """Ask over a connection of its own; return status, headers and body.

        Raises
        ------
        OSError
            If the connection is refused, or cut before the whole answer has come.
        """
        import http.client

        if key:
            headers["Authorization"] = f"Bearer {key}"
        raw = None if body is None else json.dumps(body)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, raw, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        except http.client.HTTPException as error:
            raise ConnectionResetError("the answer was cut short") from error
        finally:
            connection.close()


class Up:
    """``feilun up`` in the background, for as long as the ``with`` lasts."""

    def __init__(self, shop, *arguments):
        self.shop = shop
        self.arguments = arguments

    def __enter__(self):
        self.output = (self.shop.root / "up.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "feilun", "up", *self.arguments],
            cwd=self.shop.root,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for(self.is_ready)
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.said()
        lock = self.shop.root / ".feilun/run/up.lock"
        return lock.exists() and lock.read_text().startswith(f"{self.process.pid} ready")

    def said(self):
        return Path(self.output.name).read_text()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
        self.output.close()
        assert "Traceback" not in self.said()


def wait_for(condition, seconds=60.0):
    """Return the first true answer of ``condition``; fail if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {condition}")


@pytest.fixture
def shop(tmp_path):
    return make_shop(tmp_path)


def make_shop(root, *settings):
    port = free_port()
    (root / "shop.py").write_text(DEFINITIONS)
    lines = ["[project]", 'module = "shop.py"', "", "[platform]", f"port = {port}", *settings]
    (root / "feilun.toml").write_text("\n".join(lines) + "\n")
    return Shop(root, port)


@pytest.fixture(scope="module")
def running(request, tmp_path_factory):
    """A shop with `feilun up` running, for the tests of one file, which may have ``SETTINGS``."""
    settings = getattr(request.module, "SETTINGS", ())
    found = make_shop(tmp_path_factory.mktemp("shop"), *settings)
    with Up(found) as up:
        found.up = up
        yield found


@pytest.fixture(scope="session")
def start():
    """Start `feilun up` on a shop: ``with start(shop) as up``."""
    return Up


@pytest.fixture
def until():
    return wait_for


@pytest.fixture(scope="session")
def shop_maker():
    """Make a shop in a folder."""
    return make_shop
