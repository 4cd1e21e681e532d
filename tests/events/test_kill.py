"""The ledger holds however often the writer is killed.

A writer process appends numbered events and reports each acknowledgement through a pipe. It is
killed at random moments and started again, and sends again what it cannot know to be stored.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter

from feilun.adapters.lmdb import LmdbEventLog

KILLS = 25
BATCH = 7

WRITER = """
import sys
from pathlib import Path
from feilun.adapters.lmdb import LmdbEventLog
from feilun.testing.records import make_record

log = LmdbEventLog(Path(sys.argv[1]))
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    batch = range(number, number + int(sys.argv[3]))
    answers = log.append([make_record(str(n), n, subject=f"user_id={n % 5}") for n in batch])
    for n, answer in zip(batch, answers):
        print(n, answer.status, answer.offset, flush=True)
    number += len(batch)
"""


def _run_and_kill(folder, start: int, pause: float) -> list[tuple[int, str, int]]:
    """Return the acknowledgements that left the writer before it was killed."""
    command = [sys.executable, "-c", WRITER, str(folder), str(start), str(BATCH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(pause)
        writer.kill()
        lines = writer.stdout.read().splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(int(number), status, int(offset)) for number, status, offset in whole]


def test_an_acknowledged_event_is_in_the_log_exactly_once(tmp_path):
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    acknowledged: dict[int, int] = {}
    resent = 0
    for _ in range(KILLS):
        start = max(acknowledged, default=-1) + 1 - chance.randrange(2 * BATCH)
        for number, status, offset in _run_and_kill(
            tmp_path, max(start, 0), chance.uniform(0, 0.06)
        ):
            assert status in ("accepted", "duplicate"), f"seed {seed}"
            resent += status == "duplicate"
            assert acknowledged.setdefault(number, offset) == offset, f"seed {seed}"
    log = LmdbEventLog(tmp_path)
    stored = log.read(0, 10**6)
    end = log.end()
    log.close()
    assert len(acknowledged) > KILLS
    assert resent > 0
    assert [offset for offset, _ in stored] == list(range(end))
    counts = Counter(record.id for _, record in stored)
    assert set(counts.values()) == {1}, f"seed {seed}"
    places = {record.id: offset for offset, record in stored}
    assert all(places[str(n)] == offset for n, offset in acknowledged.items()), f"seed {seed}"
