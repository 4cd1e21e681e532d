"""Kill -9 of any process while it works: each acknowledged event takes effect once.

Events are sent and resent, a table changes and is synchronised, the log is archived, and the
definitions change again and again, so that new tiles are under construction most of the time.
"""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feilun.aggregation import encode_key, naive
from feilun.app import compose
from feilun.app.config import load
from feilun.app.locks import holder
from feilun.clock import DAY, SystemClock
from feilun.features.archive import Archiver, history
from feilun.features.frames import FrameDecoder
from feilun.records.record import LATE

pytestmark = pytest.mark.xdist_group("up")

PARTS = ("gateway", "worker", "engine", "flywheel", "sync")
VICTIMS = (*PARTS, "archiver")
USERS, ITEMS, BATCH = 5, 7, 60
LIVES = {"gateway": 4.0, "worker": 4.0}
LIFE = 1.5
"""Seconds that a process works, in the mean, before it is killed; those that answer live longer."""
PATIENCE = 240.0

DEFINITIONS = """
from feilun.features import engine

engine.BUILD_BATCH = 40  # new tiles are built in many steps, and killed between them


class Stock(fl.Table, key=item, source="warehouse.stock", time="updated_at", every="1s"):
    item_id: fl.Field[int]
    quantity: fl.Field[int]


class ItemProfile(fl.FeatureView, entity=item):
    changes = fl.count(Stock)
    stock = fl.last(Stock.quantity)


class Changing(fl.FeatureView, entity=user):
    clicks = fl.count(Click, where=Click.item_id >= {variant})
    recent = fl.last(Click.item_id, n={variant} + 2)
"""
SOURCES = """
lake = false
workers = 2

[sources.warehouse]
type = "sqlalchemy"
url = "sqlite:///warehouse.db"
"""
ARCHIVER = """
import logging
import sys
from pathlib import Path
from feilun.app import archiving
from feilun.app.config import load
from feilun.app.locks import ProcessLock
from feilun.app.process import Stop
from feilun.features import archive
logging.basicConfig(level="INFO")
archive.LONGEST_WAIT = 0
archive.BATCH_BYTES = 10_000
archiving.PAUSE, archiving.UPKEEP_APPENDS = 0.05, 10
config = load(Path(sys.argv[1]))
with ProcessLock(config.run_path, "archiver") as lock:
    archiving.run(config, lock, Stop())
"""


class World:
    """The shop, its changing table and definitions, and the processes of all that."""

    def __init__(self, shop):
        self.shop = shop
        self.run = shop.root / ".feilun/run"
        self.base = (shop.root / "shop.py").read_text()
        self.variant = 0
        self.rows = 0
        self.archivers = []
        self.define(0)
        with (shop.root / "feilun.toml").open("a") as file:
            file.write(SOURCES)
        self.sql("CREATE TABLE stock (item_id INTEGER, quantity INTEGER, updated_at TEXT)")

    def define(self, variant):
        """Change the definitions; the next engine builds what they have new."""
        self.variant = variant
        path = self.shop.root / "shop.py"
        draft = path.with_suffix(".draft")
        draft.write_text(self.base + DEFINITIONS.format(variant=variant))
        draft.replace(path)

    def sql(self, statement, *values):
        with closing(sqlite3.connect(self.shop.root / "warehouse.db", timeout=30)) as connection:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
        return found

    def restock(self):
        self.rows += 1
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.rows)
        row = (self.rows % ITEMS, self.rows, moment.isoformat())
        self.sql("INSERT INTO stock VALUES (?, ?, ?)", *row)

    def archive(self):
        """Start an archiver that archives a little at a time and tidies often."""
        with (self.run / "archiver.log").open("wb") as output:
            command = [sys.executable, "-c", ARCHIVER, str(self.shop.root)]
            self.archivers.append(subprocess.Popen(command, stdout=output, stderr=output))

    def pid_of(self, victim):
        """Return the victim's pid, if it works now."""
        held = holder(self.run, "gateway" if victim == "worker" else victim)
        if held is None or held[1] != "ready":
            return None
        if victim == "archiver" and "archived" not in (self.run / "archiver.log").read_text():
            return None  # it takes seconds to begin
        if victim != "worker":
            return held[0]
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows = (line.split(maxsplit=2) for line in listed.splitlines())
        children = [int(pid) for pid, parent, args in rows
                    if int(parent) == held[0] and "spawn_main" in args]  # fmt: skip
        return children[0] if children else None

    def kill_at_random(self, kills, seed):
        """Give each process that works a few moments to live; return how many were killed."""
        chance = random.Random(seed)
        counts, doomed = Counter(), {}
        while counts.total() < kills:
            self.restock()
            if self.archivers[-1].poll() is not None:
                self.archive()
            for victim in VICTIMS:
                pid = self.pid_of(victim)
                if pid is None:
                    continue
                due = doomed.setdefault(
                    pid, time.monotonic() + chance.expovariate(1 / LIVES.get(victim, LIFE))
                )
                if time.monotonic() >= due and counts.total() < kills:
                    if victim == "engine":
                        self.define(self.variant + chance.randrange(2))
                    with suppress(ProcessLookupError):  # it ended by itself, as its parent did
                        os.kill(pid, signal.SIGKILL)
                        counts[victim] += 1
            time.sleep(chance.uniform(0.01, 0.1))
        return counts

    @contextmanager
    def archiving(self):
        self.archive()
        try:
            yield
        finally:
            for process in self.archivers:
                process.kill()
                process.wait()


class Sender(threading.Thread):
    """Sends numbered events in batches, each again and again until it is acknowledged.

    Some are sent once more later, some are of a day long closed, some cannot be used, and some
    bring other content under an id that was taken.
    """

    def __init__(self, shop):
        super().__init__(daemon=True)
        self.shop = shop
        self.stop = threading.Event()
        self.chance = random.Random(1)
        self.sent = 0
        self.acknowledged = {}
        self.resent = 0
        self.wrong = []

    def run(self):
        while not self.stop.is_set():
            fresh = range(self.sent + 1, self.sent + BATCH + 1)
            self.sent = fresh[-1]
            known = [n for n, (_, status, _) in self.acknowledged.items() if status != "bad"]
            again = self.chance.sample(known, min(BATCH // 3, len(known)))
            sent = [(n, self.event(n), "first") for n in fresh]
            sent += [self.resent_event(n) for n in again]
            self.chance.shuffle(sent)
            replies = self.insist([event for _, event, _ in sent])
            if replies is not None:
                self.check(sent, replies)

    def event(self, number):
        event = {
            "event": "click",
            "id": f"event-{number}",
            "time": SystemClock().now() - self.chance.randrange(DAY),
            "fields": {"user_id": number % USERS, "item_id": number % ITEMS},
        }
        if number % 20 == 0:
            event["time"] -= 30 * DAY
        if number % 21 == 0:
            event["fields"]["item_id"] = "seven"
        return event

    def resent_event(self, number):
        """Say it again, unchanged or with other content: it takes no second effect."""
        event = self.acknowledged[number][0]
        if number % 2:
            return number, event, "again"
        return number, event | {"fields": event["fields"] | {"item_id": ITEMS}}, "changed"

    def check(self, sent, replies):
        newest = -1
        for (number, event, how), reply in zip(sent, replies, strict=True):
            status, offset = reply["status"], reply.get("offset")
            if how == "first":
                wanted = self.wanted(number)
                right = status == wanted or (status == "duplicate" and wanted != "bad")
                self.acknowledged[number] = (event, wanted, offset)
                newest = max(newest, offset or 0)
            else:
                self.resent += 1
                right = (status, offset) == (
                    ("duplicate", self.acknowledged[number][2])
                    if how == "again"
                    else ("conflict", None)
                )
            if not right:
                self.wrong.append((number, event, how, reply))
        if self.chance.random() < 0.3:
            self.read_own_writes(self.chance.randrange(USERS), newest)

    def wanted(self, number):
        return "bad" if number % 21 == 0 else "late" if number % 20 == 0 else "accepted"

    def insist(self, events):
        """Return what was acknowledged; None if told to stop before."""
        while True:
            status, reply = self.call("/api/events", {"source": "sender", "events": events})
            if status == 200:
                return reply["events"]
            if self.stop.is_set():
                return None
            time.sleep(0.02)

    def read_own_writes(self, user, offset):
        """A reply with ``min_offset`` has seen the events; without an engine there is none."""
        status, reply = self.call(f"/api/user_profile?user_id={user}&min_offset={offset}")
        mine = sum(
            number % USERS == user and status == "accepted"
            for number, (_, status, _) in self.acknowledged.items()
        )
        if status == 200 and reply["features"]["clicks"] < mine:
            self.wrong.append((offset, mine, reply))
        if status not in (0, 200, 503):
            self.wrong.append((status, reply))

    def call(self, path, body=None):
        try:
            return self.shop.call(path, body)
        except OSError:
            return 0, None


@pytest.mark.parametrize(
    "kills", [30, pytest.param(300, marks=pytest.mark.soak)], ids=["short", "soak"]
)
def test_no_acknowledged_event_is_lost_or_counted_twice(shop, start, until, kills, capsys):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("pyiceberg")
    world = World(shop)
    with start(shop), world.archiving():
        sender = Sender(shop)
        sender.start()
        counts = world.kill_at_random(kills, seed=kills)
        until(lambda: all(world.pid_of(victim) for victim in PARTS), PATIENCE)
        until(lambda: sender.call("/ready")[0] == 200, PATIENCE)
        sender.stop.set()
        sender.join(timeout=PATIENCE)
        assert not sender.is_alive()
        assert counts.total() == kills
        assert len(sender.acknowledged) > 5 * kills
        assert kills < 100 or all(counts[victim] for victim in VICTIMS)
        os.kill(world.pid_of("gateway"), signal.SIGKILL)  # it serves the last definitions then
        os.kill(world.pid_of("engine"), signal.SIGKILL)
        until(lambda: is_settled(world), PATIENCE)
        known = check_ledger(world, sender)
        check_features(world)
    check_lake(world)
    with capsys.disabled():
        print(f"\n{dict(counts)}: {known}, {sender.resent} resent, {world.rows} rows of a table, "
              f"{world.variant + 1} definitions")  # fmt: skip


def is_settled(world):
    """Whether everything that was written is folded and in every feature."""
    if world.pid_of("engine") is None or world.pid_of("worker") is None:
        return False
    try:
        status, reply = world.shop.call("/status")
    except OSError:
        return False
    if status != 200 or reply["lag"]:
        return False
    with closing(compose.event_log(load(world.shop.root))) as log:
        synced = sum(record.source == "table:stock" for _, record in log.read(0, 10**9))
    if synced < world.rows:
        return False
    served = world.shop.call("/api/changing?user_id=1")
    return served[0] == 200 and not served[1]["degraded"]


def check_ledger(world, sender):
    """Each acknowledged id is in exactly one of {counted, late, bad}; unacknowledged at most."""
    assert sender.wrong == []
    assert len(sender.acknowledged) >= sender.sent - BATCH
    with closing(compose.event_log(load(world.shop.root))) as log:
        records = [
            (offset, record) for offset, record in log.read(0, 10**9) if record.source == "sender"
        ]
        bad = [event for event in log.bad(0, 10**6) if event.source == "sender"]
    offsets = {record.id: offset for offset, record in records}
    assert len(offsets) == len(records), "an id is in the log twice"
    late = {record.id for _, record in records if record.flags & LATE}
    unusable = {found.decode() for event in bad for found in re.findall(rb"event-\d+", event.raw)
                if b"seven" in event.raw}  # fmt: skip
    assert not unusable & offsets.keys()
    for number, (_, status, offset) in sender.acknowledged.items():
        name = f"event-{number}"
        assert offsets.get(name) == offset
        assert (name in unusable) == (status == "bad")
        assert (name in late) == (status == "late")
    assert set(offsets) <= {f"event-{number + 1}" for number in range(sender.sent)}
    return dict(Counter(status for _, status, _ in sender.acknowledged.values()))


def check_features(world):
    """Everything served equals the oracle over the log."""
    config = load(world.shop.root)
    project = compose.definitions(config)
    with closing(compose.event_log(config)) as log:
        end = log.end()
        decoder = FrameDecoder(project, log.schemas())
        frames = decoder.decode_batches(log.read_batches(0, end)).frames
    stocked = world.sql("SELECT count(*) FROM stock")[0][0]
    assert len(frames["stock"]) == len(np.unique(frames["stock"].tie)) == stocked == world.rows
    for view, name, keys in (
        ("user_profile", "user_id", range(USERS)),
        ("changing", "user_id", range(USERS)),
        ("item_profile", "item_id", range(ITEMS)),
    ):
        for value in keys:
            served = world.shop.call(f"/api/{view}?{name}={value}")[1]["features"]
            for feature in project.views[view].features:
                key = encode_key(feature.fold.keys, [value])
                frame = frames[feature.fold.event]
                wanted = naive(feature, frame, key, SystemClock().now() + DAY, end)
                assert served[feature.name] == wanted, (view, value, feature.name)


def check_lake(world):
    """The lake has every record once, and tells of the past what the log tells."""
    config = load(world.shop.root)
    project = compose.definitions(config)
    with closing(compose.event_log(config)) as log, closing(compose.lake(config)) as lake:
        Archiver(log, lake, SystemClock()).run_all()
        end = log.end()
        wanted = FrameDecoder(project, log.schemas()).decode_batches(log.read_batches(0, end))
        for name, frame in wanted.frames.items():
            parts = list(history(project, project.events[name], 0, end, log=log, lake=lake))
            rows = sorted(row for part in parts for row in rows_of(part))
            assert rows == sorted(rows_of(frame)), name


def rows_of(frame):
    columns = [frame.columns[name].values.tolist() for name in sorted(frame.columns)]
    return list(zip(frame.known.tolist(), frame.time.tolist(), *columns, strict=True))
