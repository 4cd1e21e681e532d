"""Kill -9 of any process while events are sent: each acknowledged event takes effect once."""

import http.client
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import closing

import pytest

from feilun.app.compose import event_log
from feilun.app.config import load
from feilun.app.locks import holder

pytestmark = pytest.mark.xdist_group("up")

VICTIMS = ("gateway", "worker", "engine", "flywheel")
USERS = 5


class Sender(threading.Thread):
    """Sends numbered events, each again and again until it is acknowledged."""

    def __init__(self, shop):
        super().__init__(daemon=True)
        self.shop = shop
        self.stop = threading.Event()
        self.sent = 0
        self.acknowledged = {}
        self.wrong = []

    def run(self):
        while not self.stop.is_set():
            self.sent += 1
            self.send(f"event-{self.sent}", self.sent % USERS)

    def send(self, name, user):
        event = {"event": "click", "id": name, "fields": {"user_id": user, "item_id": self.sent}}
        body = {"source": "sender", "events": [event]}
        while True:
            status, reply = self.call("/api/events", body)
            if status == 200:
                break
            if self.stop.is_set():
                return
            time.sleep(0.02)
        answer = reply["events"][0]
        if answer["status"] not in ("accepted", "duplicate"):
            self.wrong.append(answer)
        self.acknowledged[name] = answer["offset"]
        self.read_own_write(user, answer["offset"])

    def read_own_write(self, user, offset):
        """A reply with ``min_offset`` has seen the event; without an engine there is none."""
        status, reply = self.call(f"/api/user_profile?user_id={user}&min_offset={offset}")
        mine = sum(int(n.split("-")[1]) % USERS == user for n in self.acknowledged)
        if status == 200 and reply["features"]["clicks"] < mine:
            self.wrong.append((offset, mine, reply))
        if status not in (0, 200, 503):
            self.wrong.append((status, reply))

    def call(self, path, body=None):
        try:
            return self.shop.call(path, body)
        except (OSError, http.client.HTTPException):
            return 0, None


def pid_of(run, victim):
    """Return the victim's pid, if it works now."""
    held = holder(run, "gateway" if victim == "worker" else victim)
    if held is None or held[1] != "ready":
        return None
    if victim != "worker":
        return held[0]
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split(maxsplit=2) for line in listed.splitlines())
    children = [int(pid) for pid, parent, args in rows
                if int(parent) == held[0] and "spawn_main" in args]  # fmt: skip
    return children[0] if children else None


def kill_at_random(shop, kills, seed):
    chance = random.Random(seed)
    run = shop.root / ".feilun/run"
    counts = dict.fromkeys(VICTIMS, 0)
    while sum(counts.values()) < kills:
        victim = chance.choice(VICTIMS)
        pid = pid_of(run, victim)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            counts[victim] += 1
        time.sleep(chance.uniform(0.1, 0.5))
    return counts


@pytest.mark.parametrize(
    "kills", [50, pytest.param(300, marks=pytest.mark.soak)], ids=["short", "soak"]
)
def test_no_acknowledged_event_is_lost_or_counted_twice(shop, start, until, kills):
    with start(shop):
        sender = Sender(shop)
        sender.start()
        counts = kill_at_random(shop, kills, seed=kills)
        until(lambda: all(pid_of(shop.root / ".feilun/run", victim) for victim in VICTIMS))
        until(lambda: sender.call("/ready")[0] == 200)
        sender.stop.set()
        sender.join(timeout=60)
        assert not sender.is_alive()
        assert sum(counts.values()) == kills
        check_ledger(shop, sender, until)


def check_ledger(shop, sender, until):
    assert sender.wrong == []
    assert len(sender.acknowledged) >= sender.sent - 1
    with closing(event_log(load(shop.root))) as log:
        records = [
            (offset, record) for offset, record in log.read(0, 10**9) if record.source == "sender"
        ]
    offsets = {record.id: offset for offset, record in records}
    assert len(offsets) == len(records), "an id is in the log twice"
    assert sender.acknowledged.items() <= offsets.items()
    assert set(offsets) <= {f"event-{number + 1}" for number in range(sender.sent)}
    until(lambda: shop.call("/status")[1]["lag"] == 0)
    for user in range(USERS):
        served = shop.call(f"/api/user_profile?user_id={user}")[1]["features"]["clicks"]
        assert served == sum(int(name.split("-")[1]) % USERS == user for name in offsets)
