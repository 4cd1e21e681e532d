"""Run by test_kill.py: archives and tidies in child processes that are killed.

It is a process of its own because it forks: cheap, and safe only where nothing but this runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from feilun.adapters.iceberg import IcebergLake, files, upkeep
from feilun.adapters.lmdb import LmdbEventLog
from feilun.clock import DAY, SECOND, SystemClock
from feilun.features import archive
from feilun.records.schema import schemas_of
from feilun.testing.lake_conformance import CLICK, VIEW, rows_of
from feilun.testing.records import START, make_record

ROUNDS = 40
RECORDS = 6_000
PATIENCE = 2.0


def fill(folder: Path) -> None:
    log = LmdbEventLog(folder / "log")
    log.declare(schemas_of([CLICK, VIEW]))
    records = [
        make_record(
            str(n), n, "a", 0.5, None, None, schema=CLICK.schema_id, time=START + n * SECOND
        )
        if n % 3
        else make_record(str(n), n, schema=VIEW.schema_id, time=START + n * SECOND)
        for n in range(RECORDS)
    ]
    log.append(records)
    log.close()


def work(folder: Path) -> None:
    """Archive to the end, tidying all the time; then go on tidying."""
    log, lake = LmdbEventLog(folder / "log"), IcebergLake(folder / "lake")
    archiver = archive.Archiver(log, lake, SystemClock())
    while True:
        archiver.run_once()
        lake.maintain(SystemClock().now() + 3 * DAY)
        if archiver.position == RECORDS:
            os._exit(0)


def check(folder: Path) -> None:
    lake = IcebergLake(folder / "lake")
    done = lake.archived()
    clicks, views = (rows_of(lake.frames(event, 0, done)) for event in (CLICK, VIEW))
    assert sorted([*clicks, *views]) == list(range(done)), done
    assert all(offset % 3 for offset in clicks)
    assert all(row["item"] == offset for offset, row in [*clicks.items(), *views.items()])
    lake.close()
    os._exit(0)


def forked(call: object, folder: Path, seconds: float | None) -> int:
    """Run a call in a child; kill it after so many seconds. Return its status."""
    child = os.fork()
    if child == 0:
        try:
            call(folder)  # type: ignore[operator]
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main(folder: Path) -> None:
    rng = random.Random(11)
    assert forked(fill_and_exit, folder, None) == 0
    kills = 0
    for _ in range(ROUNDS):
        killed = forked(work, folder, rng.uniform(0.05, PATIENCE)) == signal.SIGKILL
        kills += killed
        assert forked(check, folder, None) == 0
        if not killed:
            break
    assert forked(work, folder, None) == 0
    assert forked(check, folder, None) == 0
    print(kills)


def fill_and_exit(folder: Path) -> None:
    fill(folder)
    os._exit(0)


if __name__ == "__main__":
    # Not at the top: pytest imports this file to look for doctests.
    archive.BATCH_BYTES = 20_000
    files.FILE_ROWS = 2_000
    upkeep.FRAGMENTS = 2
    main(Path(sys.argv[1]))
