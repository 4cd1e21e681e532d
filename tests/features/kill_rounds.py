"""Run by test_kill.py: folds in child processes that are killed, and checks what each one left.

It is a process of its own because it forks: cheap, and safe only where nothing but this runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.clock import DAY, HOUR, MINUTE
from feilun.definitions.specs import (
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    Project,
    ViewSpec,
)
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START, make_record

ROUNDS = 30
RECORDS = 3_000
USERS, ITEMS = 7, 11

USER, ITEM = EntitySpec("user", "int"), EntitySpec("item", "int")
BUY = EventSpec("buy", 1, (FieldSpec("user", "int"), FieldSpec("item", "int")), "user")


def feature(name, kind, keys, *, field=None, window=None, n=1, is_list=False):
    hop = HOUR if window else 0
    fold = FoldSpec(kind, "buy", field, "int", keys, hop, "UTC", n, retention=window)
    return FeatureSpec("view", name, fold, window, 0, "int", is_list, n, None, None)


FEATURES = (
    feature("orders", "count", (USER,), window=2 * DAY),
    feature("total", "sum", (USER,), field="item"),
    feature("recent", "last", (USER,), field="item", n=5, is_list=True),
    feature("pair", "count", (USER, ITEM)),
    feature("popular", "top", (), field="item", window=DAY, n=5, is_list=True),
)
VIEWS = {"view": ViewSpec("view", (), FEATURES)}
PROJECT = Project("shop", "UTC", {}, {"buy": BUY}, VIEWS, {}, {}, {})


def records(rng):
    return [
        make_record(
            str(n),
            rng.randrange(USERS),
            rng.randrange(ITEMS),
            time=START + n * MINUTE - rng.randrange(3 * HOUR),
            received=START + n * MINUTE,
            schema=BUY.schema_id,
        )
        for n in range(RECORDS)
    ]


def fold_for_ever(folder: Path) -> None:
    log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
    engine = Engine(PROJECT, log, store)
    while True:
        with store.snapshot() as snapshot:
            begins = snapshot.mark().offset == 0
        if begins:  # as with an empty log, so that it is read while it folds
            Engine(PROJECT, MemoryLog(), store).run_once()
        while engine.run_once(20):
            pass
        store.clear()


def killed(folder: Path, after: float) -> None:
    pid = os.fork()
    if pid == 0:
        fold_for_ever(folder)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the engine ended by itself, with status {status}"


def check(store: LmdbOnlineStore, frames) -> int:
    with OnlineReader(PROJECT, store).snapshot() as snapshot:
        as_of, known = snapshot.mark.time + 1, snapshot.mark.offset
        if snapshot.unbuilt(FEATURES):
            assert known == 0, "folded, but not said to be whole"
            return 0
        for user in range(USERS):
            served = snapshot.read(FEATURES, {"user": user}, "item", range(ITEMS), as_of)
            spine = Spine(
                {"user": [user] * ITEMS, "item": list(range(ITEMS))},
                np.full(ITEMS, as_of),
                np.full(ITEMS, known),
            )
            for address, past in point_in_time(PROJECT, FEATURES, spine, frames).items():
                size = len(served[address].values)
                found, wanted = served[address].values.tolist(), past.values.tolist()[:size]
                assert found == wanted, f"{address} of {user} at {known}: {found}, not {wanted}"
    return known


def main(folder: Path) -> None:
    rng = random.Random(1)
    made = records(rng)
    log = LmdbEventLog(folder / "log")
    log.append(made)
    frames = event_frames(PROJECT, log.read(0, RECORDS))
    log.close()
    reached = set()
    for _ in range(ROUNDS):
        killed(folder, rng.uniform(0.01, 0.15))
        store = LmdbOnlineStore(folder / "tiles")
        reached.add(check(store, frames))
        store.close()
    log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
    engine = Engine(PROJECT, log, store)
    while engine.run_once():
        pass
    assert check(store, frames) == RECORDS
    sys.stdout.write(f"{ROUNDS} kills at {len(reached)} places\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
