"""``freshness_p99_ms``: from the collector's answer until a read over HTTP counts the event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from benchmarks import workers
from benchmarks.data import Shape
from benchmarks.harness import Result, WrongAnswer, workspace
from benchmarks.platform import Running, running

RATE = 5_000
SECONDS = 40
BODY = 100
"""Events in a body: 50 bodies a second."""
CONNECTIONS = 4
SAMPLE = 50
NOTE = (
    "Real processes: one gateway worker, one engine. Each body's wait includes the round trip of "
    "the read that sees it. No peer publishes a figure below 100 ms."
)


def run() -> Iterator[Result]:
    """Send events at a steady rate and watch when each body can be read."""
    shape = Shape(events=RATE * SECONDS)
    with (
        workspace() as folder,
        workers.ours("benchmarks.load") as load,
        running(folder, "stream", "up", "--quiet") as platform,
    ):
        before = platform.cpu()
        found = measure(load, platform, shape, RATE)
        after = platform.cpu()
    details = {
        "events/s": found["events"] / found["wall"],
        "seconds": found["wall"],
        "events_a_body": BODY,
        "cores_used": None if before is None or after is None else (after - before) / found["wall"],
    }
    yield Result("freshness_p99_ms", found["p99"] * 1e3, "ms", note=NOTE, details=details)
    yield Result("freshness_p50_ms", found["p50"] * 1e3, "ms", details=details)


def measure(load: workers.Worker, platform: Running, shape: Shape, rate: float) -> dict[str, float]:
    """Send the events; check afterwards that each counts once.

    Raises
    ------
    WrongAnswer
        If a user's count is not what was sent.
    """
    counts = load.call("prepare", shape=asdict(shape), size=BODY, source="bench")
    path = f"/api/user_profile?user_id={next(iter(counts))}"
    found: dict[str, float] = load.call(
        "steady", port=platform.port, rate=rate, connections=CONNECTIONS, path=path
    )
    for user in list(counts)[:SAMPLE]:
        query = f"user_id={user}&min_offset={found['last']}"
        reply = platform.get(f"/api/user_profile?{query}")
        if reply["features"]["orders_1h"] != counts[user]:
            raise WrongAnswer(f"User {user} has {reply['features']}, and sent {counts[user]}.")
    return found
