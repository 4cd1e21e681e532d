"""``collector``: events over HTTP, durable before they are answered, in one gateway worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import lmdb

from benchmarks import workers
from benchmarks.data import Shape
from benchmarks.harness import RUNS, Result, core_seconds, medians, workspace
from benchmarks.platform import running

EVENTS = 100_000
BODY = 500
CONNECTIONS = 8
NOTE = (
    "The limit stores the same batches, ids and subjects in LMDB, as many events a durable commit, "
    "from memory: no HTTP, no JSON, no check."
)


def run() -> Iterator[Result]:
    """Flood the collector; then store what its log holds with LMDB alone."""
    with (
        workspace() as folder,
        workers.ours("benchmarks.load") as load,
        workers.ours("benchmarks.limits") as limits,
    ):
        rounds = [one(load, limits, folder, EVENTS, number) for number in range(RUNS)]
        found = medians(rounds)
    details = {
        "events_a_run": EVENTS,
        "events_a_body": BODY,
        "connections": CONNECTIONS,
        "events_a_commit": found["group"],
        "gateway_cpu_s": found["cpu"],
    }
    yield Result(
        "collector", found["ours"], "events/s", limit=found["limit"], note=NOTE, details=details
    )


def one(
    load: workers.Worker, limits: workers.Worker, folder: Path, events: int, number: int
) -> dict[str, float]:
    """Measure a fresh gateway and the limit once, after the gateway was warmed."""
    place = folder / f"run-{number}"
    place.mkdir()
    with running(place, "stream", "serve", "gateway") as platform:
        load.call(
            "prepare", shape=asdict(Shape(BODY * CONNECTIONS, seed=1)), size=BODY, source="warm"
        )
        load.call("flood", port=platform.port, connections=CONNECTIONS)
        commits, cpu = _commits(platform.log), platform.cpu()
        load.call("prepare", shape=asdict(Shape(events)), size=BODY, source="bench")
        spent = load.call("flood", port=platform.port, connections=CONNECTIONS)
        commits, cpu_after = _commits(platform.log) - commits, platform.cpu()
    group = max(1, round(events / commits))
    least = limits.call("commit", folder=str(place), log=platform.log, group=group)
    return {
        "ours": spent["events"] / spent["wall"],
        "limit": (events + BODY * CONNECTIONS) / core_seconds(least),
        "group": group,
        "cpu": -1.0 if cpu is None or cpu_after is None else cpu_after - cpu,
    }


def _commits(log: str) -> int:
    """Return how many transactions a log has committed so far."""
    with lmdb.open(log, max_dbs=16, readonly=True) as store:
        return int(store.info()["last_txnid"])
