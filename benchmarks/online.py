"""``online_1x10`` and ``online_500x10``: ten features of one key, and of 500, as of now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workers
from benchmarks.data import DAY, START, Events, Shape, save
from benchmarks.harness import Result, expect, interleaved, peers, workspace
from benchmarks.windows import of_key, value

VIEW = "user_profile"
NOTE = (
    "Feast is handed the ten values precomputed and finds them again; Feilun computes them from "
    "tiles at the moment of the read. The limit is one LMDB transaction, one get a key and one "
    "NumPy decode of the same bytes."
)
SHAPE = Shape(events=200_000, users=10_000, span=30 * DAY)
AS_OF = START + SHAPE.span
FEATURES = {
    "orders_1h": ("count", "1h"),
    "orders_1d": ("count", "1d"),
    "orders_7d": ("count", "7d"),
    "orders_30d": ("count", "30d"),
    "spent_1d": ("sum", "1d"),
    "spent_7d": ("sum", "7d"),
    "spent_30d": ("sum", "30d"),
    "mean_7d": ("mean", "7d"),
    "least_30d": ("min", "30d"),
    "most_30d": ("max", "30d"),
}
"""What ``projects/online.py`` defines, as statistic and window."""
SAMPLE = 200


def one_key() -> Iterator[Result]:
    """Read one key, then another."""
    yield from _measure("online_1x10", keys=1, requests=1_000)


def many_keys() -> Iterator[Result]:
    """Read 500 keys at once."""
    yield from _measure("online_500x10", keys=500, requests=30)


def _measure(name: str, keys: int, requests: int) -> Iterator[Result]:
    random = np.random.default_rng(1)
    with (
        workspace() as folder,
        workers.ours() as ours,
        workers.ours("benchmarks.limits") as limits,
        peers("feast") as others,
    ):
        store = build(ours, folder, SHAPE, "online")
        users = list(range(SHAPE.users))
        values = ours.call(
            "online_values",
            folder=store,
            view=VIEW,
            keys=[{"user_id": user} for user in users],
            as_of=AS_OF,
        )
        check_values(values, SHAPE.all(), AS_OF)
        # Feast has no word for a value that is missing beside one that is not: only whole rows.
        rows = [
            {"user_id": user, **row}
            for user, row in zip(users, values, strict=True)
            if None not in row.values()
        ]
        asked = random.choice([row["user_id"] for row in rows], (requests, keys)).tolist()
        bare = limits.call("open_values", folder=str(folder), tiles=store)
        contenders = {
            "feilun": lambda: ours.call(
                "online_latency",
                folder=store,
                view=VIEW,
                item="user_id",
                requests=asked,
                as_of=AS_OF,
            ),
            "limit": lambda: limits.call("get_and_decode", name=bare, requests=asked),
        }
        feast = others.running.get("feast")
        if feast is not None:
            named = feast.call("open_online", folder=str(folder), rows=rows)
            _compare(feast, named, rows)
            contenders["feast"] = lambda: feast.call("online_latency", name=named, requests=asked)
        for contender in contenders.values():
            contender()  # a whole run to warm up: a read takes microseconds
        found = interleaved(contenders)
    details = {
        "users": SHAPE.users,
        "events": SHAPE.events,
        "keys": keys,
        "requests_a_run": requests,
        "median_bytes": found["limit"]["bytes"],
    }
    for suffix, which in (("", "p50"), ("_p99", "p99")):
        mine, least = found["feilun"][which] * 1e6, found["limit"][which] * 1e6
        more: dict[str, Any] = {"limit": least, "note": NOTE, "details": details}
        if feast is not None:
            theirs = found["feast"][which] * 1e6
            yield Result(name + suffix, mine, "µs", workers.version("feast"), theirs, **more)
        yield from others.results(name + suffix, mine, "µs", **more)


def build(ours: workers.Worker, folder: Path, shape: Shape, project: str) -> str:
    """Fill a log, fold it, open the store for reads; return the store's folder."""
    data = save(shape.all(), folder / "events")
    log = ours.call("fill_log", project=project, data=data, events=shape.events)
    store: str = ours.call("fold_log", project=project, log=log, limit=100_000)["folder"]
    ours.call("open_store", project=project, folder=store)
    return store


def check_values(
    found: list[dict[str, Any]], events: Events, as_of: int, sample: int = SAMPLE
) -> None:
    """Compare the rows of the first users with plain sums over the events."""
    for user, row in enumerate(found[:sample]):
        mine = of_key(events, {"user_id": user})
        wanted = {name: value(mine, *feature, as_of) for name, feature in FEATURES.items()}
        expect("feilun", row, wanted)


def _compare(feast: workers.Worker, named: str, rows: list[dict[str, Any]]) -> None:
    sample = rows[:SAMPLE]
    found = feast.call("online_values", name=named, keys=[row["user_id"] for row in sample])
    wanted = [{name: row[name] for name in row if name != "user_id"} for row in sample]
    expect("feast", found, wanted)
