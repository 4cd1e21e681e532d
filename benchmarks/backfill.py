"""``backfill_100m``: bounded memory, and time in proportion to the events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import workers
from benchmarks.data import DAY, Events, Shape
from benchmarks.harness import Result, core_seconds, expect, workspace
from benchmarks.stream_fold import VIEWS, expected

SIZES = (10_000_000, 30_000_000, 100_000_000)
SPAN = 30 * DAY
MEMORY_GIB = 4
NOTE = (
    "One run. Events come as columns, eight million at a time; generating them is not measured. "
    "(The engine, which reads a log and stays fresh, takes 200,000 records a commit.)"
)


def run() -> Iterator[Result]:
    """Fold three sizes, each in a process of its own; the memory is the largest one's."""
    spent = {}
    for size in SIZES:
        shape = Shape(events=size, span=SPAN)
        with workspace() as folder, workers.ours() as ours:
            spent[size] = backfill(ours, folder, shape)
    seconds = {size: core_seconds(each) for size, each in spent.items()}
    smallest, largest = SIZES[0], SIZES[-1]
    details = {f"seconds_{size}": seconds[size] for size in SIZES}
    details |= {f"memory_gib_{size}": spent[size]["memory"] / 2**30 for size in SIZES}
    yield Result(
        "backfill_100m", largest / seconds[largest], "events/s", note=NOTE, details=details
    )
    yield Result(
        "backfill_100m_memory", spent[largest]["memory"] / 2**30, "GiB", limit=MEMORY_GIB,
        note="The most that the process had for itself, looked at every 50 ms. Mapped pages of the "
        "store's file are not counted: the system takes them back when it needs them.",
    )  # fmt: skip
    yield Result(
        "backfill_100m_linear",
        seconds[largest] / largest * smallest / seconds[smallest],
        "× time an event",
        note=f"Time an event at {largest:,} events over that at {smallest:,}; 1 is linear.",
    )


def backfill(
    ours: workers.Worker, folder: Path, shape: Shape, sample: int = 20
) -> dict[str, float]:
    """Fold the events of a shape, and check some keys against plain sums."""
    spent: dict[str, float] = ours.call(
        "backfill", project="stream", folder=str(folder), shape=asdict(shape)
    )
    store = spent["folder"]
    ours.call("open_store", project="stream", folder=store)
    users = np.random.default_rng(5).integers(0, shape.users, sample)
    kept: list[Events] = []
    as_of = 0
    for chunk in shape.chunks():
        mine = np.isin(chunk["user_id"], users)
        kept.append({name: values[mine] for name, values in chunk.items()})
        as_of = int(chunk["time"][-1]) + 1
    events = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
    view, (name,) = "user_profile", VIEWS["user_profile"]
    keys = [{name: int(user)} for user in users]
    found = ours.call("online_values", folder=store, view=view, keys=keys, as_of=as_of)
    expect("feilun", found, [expected(events, key, as_of) for key in keys])
    return spent
