"""Rollouts begun, moved, stopped, promoted and rolled back at random, under load and kill -9.

Version v scores an item's heat times v, so that the scores tell which version an answer is of.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from feilun.adapters.lmdb import LmdbEventLog
from feilun.clock import SystemClock
from feilun.flywheel import rollout
from feilun.flywheel.release import rollback
from feilun.flywheel.workshop import Workshop
from feilun.ports.releases import going_on
from feilun.records.split import gets_challenger
from feilun.testing.platform_fakes import InMemoryRegistry

sys.path.insert(0, str(Path(__file__).parent))

from served import predictions, release, serving, write_version

USERS, THREADS, WORKERS, VERSIONS = 60, 4, 2, 5
PACE = 0.025
"""Seconds between two requests of a thread: the load is steady, whatever the machine can bear."""
KEPT = 50
"""So many requests share a connection: new workers get their part."""
PERCENTS = (0, 5, 25, 60, 100)
PATIENCE = 30.0
DYING = 1.0
"""Seconds in which a process is gone that was killed: until then it may seem to take a request."""
CALM = 6.0
"""Seconds: the server ends when a worker ends so soon after it was started anew (5.5 s)."""


class Caller(threading.Thread):
    """Asks at a steady pace; what was lost with its connection it asks again under its id."""

    def __init__(self, server, part):
        super().__init__(daemon=True)
        self.server, self.part = server, part
        self.done = threading.Event()
        self.replies, self.problems = {}, []
        self.deaths = []  # of a connection: when it was last known to live, and when it was found

    def run(self):
        number, due = 0, time.monotonic()
        while not self.done.is_set():
            with closing(self.server.connect()) as connection:
                try:
                    connection.connect()
                except OSError as error:  # one worker at least listens, whoever is killed
                    self.problems.append(error)
                    return
                self.alive = time.monotonic()
                for _ in range(KEPT):
                    if not self.ask(number, connection):
                        break
                    number, due = number + 1, due + PACE
                    if self.done.wait(max(0.0, due - time.monotonic())):
                        return

    def ask(self, number, connection):
        """Say whether the connection has brought an answer."""
        path = f"/api/strict?user_id={(number * THREADS + self.part) % USERS}"
        id = f"soak-{self.part}-{number}"
        try:
            status, body = self.server.ask("GET", path, None, {"X-Request-Id": id}, connection)
        except (OSError, http.client.HTTPException) as error:
            self.deaths.append((self.alive, time.monotonic(), repr(error)))
            return False
        self.alive = time.monotonic()
        reply = json.loads(body)
        # Nobody folds here what the gateway logs, and after a while it says so.
        if status != 200 or reply["degraded"] not in ([], ["stale"]):
            self.problems.append((id, status, reply))
        self.replies[id] = reply
        return True


class Operator:
    """Takes random steps with rollouts, as ``feilun rollout`` and ``feilun rollback`` do."""

    def __init__(self, server, log, seed):
        self.chance = random.Random(seed)
        self.steps = Counter()
        registry = InMemoryRegistry()
        for version in range(1, VERSIONS + 1):
            digest = write_version(server, version)
            folder = server.root / "bundles" / digest
            registry.register("ranker", digest, folder, params={}, metrics={}, tags={})
        self.workshop = Workshop(
            project=server.project, log=log, turns=None, releases=server.releases,
            registry=registry, bundles=server.root / "bundles", convert=None, loaders={},
            clock=SystemClock(), pause=time.sleep, name_snapshot=None, audit=None, owner="soak",
            by="test",
        )  # fmt: skip

    def step(self):
        shop = self.workshop
        parts = (shop.releases, shop.log, shop.clock)
        release = shop.releases.current("ranker")
        rolling = going_on(shop.releases.rollout("ranker"), release)
        choices = ["start", "start", "rollback"] if rolling is None else [
            "move", "move", "stop", "promote", "rollback"
        ]  # fmt: skip
        choice, percent = self.chance.choice(choices), self.chance.choice(PERCENTS)
        if choice == "start":
            others = [v for v in range(1, VERSIONS + 1) if v != release.version]
            rollout.start(shop, "ranker", self.chance.choice(others), percent, "soak")
        elif choice == "move":
            rollout.move(*parts, model="ranker", percent=percent, by="soak")
        elif choice == "stop":
            rollout.stop(*parts, model="ranker", by="soak")
        elif choice == "promote":
            rollout.promote(shop, "ranker", "soak")
        else:
            known = {entry.version for entry in shop.releases.entries("ranker")}
            earlier = sorted(known - {release.version})
            if not earlier:
                return
            rollback(shop, "ranker", "soak", self.chance.choice(earlier))
        self.steps[choice] += 1


class Killer:
    """Kills a worker with kill -9 every few seconds, while all of them answer."""

    def __init__(self, server, seed):
        self.server, self.chance = server, random.Random(seed)
        self.kills = []  # when
        self.born = {}  # by pid, when it was first seen; the first ones long ago
        self.due = time.monotonic() + 1.0

    def workers(self):
        """Return the workers' pids, if all have said that they serve."""
        command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = (line.split(maxsplit=2) for line in listed.splitlines())
        pids = [int(pid) for pid, parent, args in rows
                if int(parent) == self.server.process.pid and "spawn_main" in args]  # fmt: skip
        serving = self.server.releases.serving("ranker", 0)
        ready = [pid for pid in pids if serving.get(f"w{pid}")]
        return ready if len(pids) == len(ready) == WORKERS else []

    def step(self):
        now = time.monotonic()
        if now < self.due or not (ready := self.workers()):
            return
        birth = now if self.kills else now - CALM
        calm = [pid for pid in ready if now - self.born.setdefault(pid, birth) >= CALM]
        if calm:
            self.kills.append(time.monotonic())
            os.kill(self.chance.choice(calm), signal.SIGKILL)
            self.due = now + self.chance.uniform(1.0, 3.0)


@pytest.mark.parametrize(
    "seconds", [8, pytest.param(240, marks=pytest.mark.soak)], ids=["short", "soak"]
)
def test_no_step_of_a_rollout_and_no_killed_worker_fails_or_mixes_an_answer(
    tmp_path, seconds, capsys
):
    with serving(tmp_path, workers=WORKERS) as server:
        log = LmdbEventLog(tmp_path / "log")
        operator, killer = Operator(server, log, seed=seconds), Killer(server, seed=seconds)
        release(server, 1)
        wait_for(killer.workers)
        callers = [Caller(server, part) for part in range(THREADS)]
        for caller in callers:
            caller.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            operator.step()
            killer.step()
            assert server.process.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(operator.chance.uniform(0.05, 0.3))
        wait_for(killer.workers)
        for caller in callers:
            caller.done.set()
        for caller in callers:
            caller.join(PATIENCE)
            assert not caller.is_alive()
        server.stop()
        log.close()
        logged = predictions(server)
    replies = {id: reply for caller in callers for id, reply in caller.replies.items()}
    deaths = [death for caller in callers for death in caller.deaths]
    assert [problem for caller in callers for problem in caller.problems] == []
    assert len(killer.kills) >= seconds / 8
    assert operator.steps.keys() == {"start", "move", "stop", "promote", "rollback"} or seconds < 60
    check_deaths(deaths, killer.kills)
    check_log(replies, logged, server.releases)
    with capsys.disabled():
        versions = Counter(reply["version"] for reply in replies.values())
        print(f"\n{len(replies)} answers, of versions {dict(versions)}; {dict(operator.steps)}; "
              f"{len(killer.kills)} workers killed, {len(deaths)} connections")  # fmt: skip


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def check_deaths(deaths, kills):
    """Check that each connection that died lived until a worker was killed, or was dying."""
    for alive, found, error in deaths:
        killed = [kill for kill in kills if alive - DYING <= kill <= found]
        assert killed, (error, [(kill - alive, kill - found) for kill in kills])


def check_log(replies, logged, releases):
    """Check that each answer is there once, of one version, the one that the split gave it."""
    by_id = {prediction.request_id: prediction for prediction in logged}
    assert len(by_id) == len(logged)
    assert replies.keys() <= by_id.keys()
    entries = {entry.sequence: entry for entry in releases.rollouts("ranker")}
    champions = {entry.sequence: entry.version for entry in releases.entries("ranker")}
    arms = Counter()
    for prediction in logged:
        if prediction.request_id in replies:
            reply = replies[prediction.request_id]
            assert (reply["version"], reply["result"]) == (prediction.version, prediction.answer)
        heat = np.frombuffer(prediction.vectors, np.float32).reshape(-1, 3)[:, 1]
        scores = np.frombuffer(prediction.scores, np.float64)
        assert heat.any()
        assert scores.tolist() == (heat * float(prediction.version)).tolist()
        entry = entries.get(prediction.rollout)
        share, tried = 0.0, False
        if entry is not None:
            share, unit = entry.percent / 100, f"user_id={prediction.keys['user_id']}"
            tried = gets_challenger(entry.salt, unit, entry.percent)
        assert entry is not None or prediction.rollout == 0
        expected = ("challenger", share) if tried else ("champion", 1.0 - share)
        assert (prediction.arm, prediction.propensity) == expected
        # A worker that has not loaded the newest release yet answers with one from before it, but
        # compares no challenger with that.
        released = set(champions.values()) if entry is None else {champions[entry.release]}
        assert prediction.version in ({entry.version} if tried else released)
        arms[prediction.arm, prediction.version] += 1
    assert {arm for arm, _ in arms} == {"champion", "challenger"}
    assert len({version for _, version in arms}) > 2
