"""``stream_fold``: a durable log becomes tiles, of three views with two windows each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import workers
from benchmarks.data import DAY, HOUR, Events, Shape, save
from benchmarks.harness import (
    RUNS,
    Result,
    core_seconds,
    expect,
    interleaved,
    medians,
    peers,
    workspace,
)
from benchmarks.windows import of_key, value

SHAPE = Shape(events=1_000_000)
VIEWS = {
    "user_profile": ["user_id"],
    "item_profile": ["item_id"],
    "user_category": ["user_id", "category"],
}
WINDOWS = [
    window
    for keys in VIEWS.values()
    for window in (
        {"keys": keys, "hop": HOUR // 12, "length": HOUR, "value": "count"},
        {"keys": keys, "hop": HOUR, "length": 7 * DAY, "value": "sum"},
    )
]
"""What the peers compute; ``projects/stream.py`` defines the same for Feilun."""
PEERS = {"pathway": 200_000, "bytewax": 20_000, "flink": 500_000}
"""How many events each is given: their rates do not rise with more, and a run should end."""
SLIDING = {"pathway": 2_000, "bytewax": 1_000, "flink": 2_000}
CHECKED = 2_000
CATCH_UP = 200_000
CADENCE = 0.1
LIVE_SECONDS = 20
NOTE = (
    "Feilun reads a durable log, checks each record, and commits tiles with the log's offset to "
    "disk. The peers read memory or a CSV file, keep no durable state, and compute tumbling "
    "windows of one hop (the same tiles), which spares them the sliding windows themselves."
)


def run() -> Iterator[Result]:
    """Measure catch-up with every peer, then the live cadence."""
    events = SHAPE.all()
    sizes = {
        view: len(np.unique(np.column_stack([events[key] for key in keys]), axis=0))
        for view, keys in VIEWS.items()
    }
    with workspace() as folder, workers.ours() as ours, peers(*PEERS) as others:
        data = save(events, folder / "events")
        log = ours.call("fill_log", project="stream", data=data, events=SHAPE.events)
        check_ours(ours, log, events)
        contenders: dict[str, Any] = {"feilun": lambda: _fold(ours, log, CATCH_UP)}
        for name, worker in others.running.items():
            _check_peer(name, worker, data, events)
            contenders[name] = _peer_run(worker, data, PEERS[name], "tiles")
            contenders[name]()  # to warm it up: the JVM's second run is twice as fast
        found = interleaved(contenders)
        sliding = {
            name: SLIDING[name] / core_seconds(_peer_run(worker, data, SLIDING[name], "sliding")())
            for name, worker in others.running.items()
        }
        live = medians(
            _fold(ours, log, 2_000, longest=CADENCE, seconds=LIVE_SECONDS) for _ in range(RUNS)
        )
    rate = SHAPE.events / core_seconds(found["feilun"])
    details = {
        "events": SHAPE.events,
        "keys": sizes,
        "events_a_commit": CATCH_UP,
        "commit_p50_ms": found["feilun"]["commit_p50"] * 1e3,
    }
    live_rate = live["events"] / core_seconds(live)
    live_details = {
        **details,
        "events_a_commit": live["events"] / live["commits"],
        "commit_p50_ms": live["commit_p50"] * 1e3,
        "commit_p99_ms": live["commit_p99"] * 1e3,
    }
    for name in others.running:
        theirs = PEERS[name] / core_seconds(found[name])
        more = {"peer_events": PEERS[name], "peer_sliding_events/s": sliding[name]}
        version = workers.version(name)
        yield Result(
            "stream_fold", rate, "events/s", version, theirs, note=NOTE, details=details | more
        )
        if name == "pathway":
            yield Result(
                "stream_fold_live", live_rate, "events/s", version, theirs,
                note=f"Feilun's commits are meant to take less than {CADENCE * 1e3:.0f} ms (their "
                "p50 and p99 are given); Pathway's figure is its catch-up rate, with one commit at "
                "the end.",
                details=live_details,
            )  # fmt: skip
    yield from others.results("stream_fold", rate, "events/s", note=NOTE, details=details)


def _fold(ours: workers.Worker, log: str, limit: int, **live: float) -> dict[str, float]:
    found: dict[str, float] = ours.call("fold_log", project="stream", log=log, limit=limit, **live)
    return found


def _peer_run(
    worker: workers.Worker, data: str, events: int, form: str
) -> Callable[[], dict[str, float]]:
    """Give a peer its events; return what computes the windows from them."""
    path = worker.call("prepare", folder=data, events=events)
    return partial(worker.call, "run", path=path, windows=WINDOWS, form=form)


def _check_peer(name: str, worker: workers.Worker, data: str, events: Events) -> None:
    """Compare a peer's windows of the first events with plain grouping."""
    path = worker.call("prepare", folder=data, events=CHECKED)
    first = {column: values[:CHECKED] for column, values in events.items()}
    found = worker.call("check", path=path, windows=WINDOWS, form="tiles")
    for window, rows in zip(WINDOWS, found, strict=True):
        expect(name, rows, _groups(first, window))


def check_ours(
    ours: workers.Worker, log: str, events: Events, catch_up: int = CATCH_UP, sample: int = 100
) -> None:
    """Fold the log and compare what is read then with plain sums over the events."""
    store = ours.call("fold_log", project="stream", log=log, limit=catch_up)["folder"]
    ours.call("open_store", project="stream", folder=store)
    as_of = int(events["time"][-1]) + 1
    places = np.random.default_rng(2).integers(0, len(events["time"]), sample)
    for view, names in VIEWS.items():
        keys = [{name: int(events[name][place]) for name in names} for place in places]
        found = ours.call("online_values", folder=store, view=view, keys=keys, as_of=as_of)
        expect("feilun", found, [expected(events, key, as_of) for key in keys])


def expected(events: Events, key: Mapping[str, int], as_of: int) -> dict[str, Any]:
    """Return the values of one key of a view of ``projects/stream.py``, by plain sums."""
    mine = of_key(events, key)
    return {
        "orders_1h": value(mine, "count", "1h", as_of),
        "spent_7d": value(mine, "sum", "7d", as_of),
    }


def _groups(events: Events, window: Mapping[str, Any]) -> list[list[int]]:
    """Return the tiles of a window as rows ``[*keys, start, value]``, sorted."""
    starts = events["time"] // window["hop"] * window["hop"]
    columns = np.column_stack([*(events[key] for key in window["keys"]), starts])
    rows, places = np.unique(columns, axis=0, return_inverse=True)
    values = np.zeros(len(rows), np.int64)
    np.add.at(values, places.ravel(), 1 if window["value"] == "count" else events["amount"])
    found: list[list[int]] = np.column_stack([rows, values]).tolist()
    return found
