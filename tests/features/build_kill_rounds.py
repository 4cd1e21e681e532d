"""Run by test_building.py: engines whose definitions change are killed while they build."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.definitions.specs import Project, ViewSpec
from feilun.features import engine as engine_module
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time

sys.path.insert(0, str(Path(__file__).parent))
import kill_rounds as world

ROUNDS = 18
COMMITS = 20
"""The most that an engine makes before it is killed: about as many as a building takes."""


def project_of(features):
    views = {"view": ViewSpec("view", (), tuple(features))}
    return Project("shop", "UTC", {}, {"buy": world.BUY}, views, {}, {}, {})


def killed(folder: Path, project: Project, commits: int, after: float) -> None:
    """Kill an engine some seconds after it has made so many commits, or has nothing left to do."""
    reports, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
        engine = Engine(project, log, store)
        while engine.run_once(150):
            os.write(report, b".")
        os.write(report, b"." * commits)
        signal.pause()
    os.close(report)
    with os.fdopen(reports, "rb", buffering=0) as made:
        while commits > 0 and (heard := made.read(commits)):
            commits -= len(heard)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the engine ended by itself, with status {status}"


def check(store: LmdbOnlineStore, project: Project, frames) -> int:
    """See that each feature is whole or not there; return how many are not."""
    features = project.views["view"].features
    with OnlineReader(project, store).snapshot() as snapshot:
        as_of, known = snapshot.mark.time + 1, snapshot.mark.offset
        unbuilt = set(snapshot.unbuilt(features))
        for user in range(world.USERS):
            served = snapshot.read(features, {"user": user, "item": 3}, None, (), as_of)
            spine = Spine({"user": [user], "item": [3]}, np.array([as_of]), np.array([known]))
            for address, past in point_in_time(project, features, spine, frames).items():
                if address in unbuilt:
                    assert not served[address].present[0], address
                    continue
                found, wanted = served[address].values[0], past.values[0]
                assert found == wanted, f"{address} of {user} at {known}: {found}, not {wanted}"
    return len(unbuilt)


def main(folder: Path) -> None:
    rng = random.Random(2)
    made = world.records(rng)
    log = LmdbEventLog(folder / "log")
    log.append(made)
    frames = event_frames(world.PROJECT, log.read(0, world.RECORDS))
    log.close()
    building = 0
    for _ in range(ROUNDS):
        project = project_of(rng.sample(world.FEATURES, rng.randint(1, 4)))
        killed(folder, project, rng.randint(0, COMMITS), rng.uniform(0, 0.005))
        store = LmdbOnlineStore(folder / "tiles")
        building += check(store, project, frames) > 0
        store.close()
    log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
    engine = Engine(world.PROJECT, log, store)
    while engine.run_once(1_000):
        pass
    assert check(store, world.PROJECT, frames) == 0
    sys.stdout.write(f"{ROUNDS} kills, {building} while building\n")


if __name__ == "__main__":
    engine_module.BUILD_BATCH = 150  # not at the top: pytest looks for doctests here
    main(Path(sys.argv[1]))
