"""Feilun's side of every benchmark: all that the harness knows of Feilun's insides.

Run as a worker, as the peers are. Folders and projects are named by the harness, which is the
only one that speaks to it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.data import Events, Shape, load
from benchmarks.memory import watched
from benchmarks.protocol import latencies, serve, timed
from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.aggregation import Family
from feilun.aggregation.frames import Column, EventFrame
from feilun.clock import SystemClock
from feilun.definitions.loading import load_project
from feilun.definitions.specs import Project
from feilun.errors import CorruptData
from feilun.events.collector import Collector
from feilun.features.built import KEY, Built, encode_built
from feilun.features.engine import Engine
from feilun.features.increments import fold_frames, puts
from feilun.features.online import OnlineReader, Snapshot
from feilun.features.point_in_time import Spine, point_in_time
from feilun.ports.online_store import Mark

EVENT = "order"
BODY = 1_000
"""Events in one body when a log is filled."""
AIM = 0.8
"""The part of the longest time that a commit is meant to take."""
BACKFILL_CHUNKS = 8
"""Chunks of events that a backfill folds at once, for each commit rewrites nearly every key."""
FEWEST = 100
"""Events in a commit at least, however slow the disk is."""

_readers: dict[str, OnlineReader] = {}
_columns: dict[str, Events] = {}


def project_of(name: str) -> Project:
    """Compile one of ``benchmarks/projects``."""
    return load_project(Path(__file__).parent / "projects" / f"{name}.py")


def bodies(events: Events, size: int = BODY, source: str = "bench") -> list[bytes]:
    """Return the events as bodies for the collector, with ids and times."""
    names = [name for name in events if name != "time"]
    rows = zip(*(events[name].tolist() for name in names), strict=True)
    items = [
        {"event": EVENT, "id": f"{place:016x}", "time": at, "fields": dict(zip(names, row))}  # noqa: B905
        for place, (at, row) in enumerate(zip(events["time"].tolist(), rows, strict=True))
    ]
    return [
        msgspec.json.encode({"source": source, "events": items[at : at + size]})
        for at in range(0, len(items), size)
    ]


def frame(events: Events, first: int = 0) -> EventFrame:
    """Return the events as the kernel folds them; the first has the offset ``first``."""
    count = len(events["time"])
    present = np.ones(count, np.bool_)
    return EventFrame(
        time=events["time"],
        tie=np.arange(first, first + count, dtype=np.uint64),
        known=np.arange(first, first + count, dtype=np.int64),
        columns={n: Column(values, present) for n, values in events.items() if n != "time"},
    )


def fill_log(project: str, data: str, events: int) -> str:
    """Write the first events to a new log through the collector; return its folder."""
    folder = tempfile.mkdtemp(prefix="log-", dir=data)
    columns = {name: values[:events] for name, values in load(data).items()}
    with closing(LmdbEventLog(Path(folder))) as log:
        collector = Collector(project_of(project), log, SystemClock(), mode="request")
        for body in bodies(columns):
            answers = collector.accept("bench", body)
            if any(answer.status != "accepted" for answer in answers):
                raise RuntimeError("The collector refused a generated event.")
    return folder


def fold_log(
    project: str, log: str, limit: int, longest: float | None = None, seconds: float = np.inf
) -> dict[str, Any]:
    """Fold a log into a new store; return its folder, how many events, and the times.

    Parameters
    ----------
    project, log : str
        What to fold.
    limit : int
        Records a commit.
    longest : float or None
        Seconds a commit may take: ``limit`` then changes so that commits come that often.
    seconds : float
        When to stop, if the log is not at its end before.
    """
    folder = tempfile.mkdtemp(prefix="tiles-", dir=Path(log).parent)
    commits: list[float] = []
    with (
        closing(LmdbEventLog(Path(log))) as source,
        closing(LmdbOnlineStore(Path(folder))) as store,
    ):
        engine = Engine(project_of(project), source, store)

        def fold() -> None:
            size = limit
            until = time.perf_counter() + seconds
            while (before := time.perf_counter()) < until and engine.run_once(size):
                commits.append(time.perf_counter() - before)
                if longest is not None:
                    # Shrink fast, grow slowly: nearly every commit then stays below the bound.
                    wanted = AIM * longest / commits[-1]
                    size = max(int(size * min(max(wanted, 0.5), 1.02)), FEWEST)

        spent = timed(fold)
        folded = engine.folded
    commits.sort()
    return {
        **spent,
        "folder": folder,
        "events": folded,
        "commits": len(commits),
        "commit_p50": commits[len(commits) // 2],
        "commit_p99": commits[len(commits) * 99 // 100],
    }


def open_store(project: str, folder: str) -> list[str]:
    """Open a store for reads; return the names of the project's features."""
    _readers[folder] = OnlineReader(project_of(project), LmdbOnlineStore(Path(folder)))
    return [f.address for view in _readers[folder].project.views.values() for f in view.features]


def online_values(
    folder: str, view: str, keys: Sequence[Mapping[str, int]], as_of: int
) -> list[dict[str, Any]]:
    """Return the values of one view for each key, by feature name; None where missing."""
    reader = _readers[folder]
    features = reader.project.views[view].features
    with reader.snapshot() as snapshot:
        rows = [snapshot.read_row(features, key, as_of).values for key in keys]
    return [{name.partition(":")[2]: value for name, value in row.items()} for row in rows]


def online_latency(
    folder: str, view: str, item: str, requests: list[list[int]], as_of: int
) -> dict[str, float]:
    """Time reads of a view, as Python values; each request names the keys it asks for."""
    reader = _readers[folder]
    features = reader.project.views[view].features

    def read(keys: list[int]) -> dict[str, Any]:
        with reader.snapshot() as snapshot:
            if len(keys) == 1:
                return snapshot.read_row(features, {item: keys[0]}, as_of).values
            return _many(snapshot, keys)

    def _many(snapshot: Snapshot, keys: list[int]) -> dict[str, Any]:
        columns = snapshot.read(features, {}, item, keys, as_of)
        return {address: _python(column) for address, column in columns.items()}

    read(requests[0])
    return latencies(read, requests)


def _python(column: Column) -> list[Any]:
    values: list[Any] = column.values.tolist()
    for row in np.flatnonzero(~column.present):
        values[row] = None
    return values


def training_frame(data: str) -> int:
    """Take the events of ``data`` into memory; return how many."""
    _columns[data] = load(data)
    return len(_columns[data]["time"])


def training_set(project: str, data: str, spine: str, out: str) -> dict[str, float]:
    """Compute every feature of the only view over the spine; write one ``.npy`` file a feature.

    Only the computation is timed: events and spine lie ready in memory, as columns.
    """
    definitions = project_of(project)
    (view,) = definitions.views.values()
    asked = load(spine)
    events = {EVENT: frame(_columns[data])}
    count = len(asked["as_of"])
    queries = Spine(
        {"user_id": asked["user_id"]}, asked["as_of"], np.full(count, 1 << 62, np.int64)
    )
    found: dict[str, Column] = {}
    spent = timed(lambda: found.update(point_in_time(definitions, view.features, queries, events)))
    for address, column in found.items():
        values = np.where(column.present, column.values.astype(np.float64), np.nan)
        np.save(Path(out) / f"{address.partition(':')[2]}.npy", values)
    return spent


def backfill(project: str, folder: str, shape: dict[str, int]) -> dict[str, Any]:
    """Fold generated events into a new store, some chunks at a time; return times and peak memory.

    The time of generating them is left out.
    """
    definitions = project_of(project)
    wall = cpu = 0.0
    at = 0
    path = Path(tempfile.mkdtemp(prefix="tiles-", dir=folder))
    built = Built().arranged(definitions.folds, 0, 0)
    families = [holding.family for holding in built.holdings]
    with closing(LmdbOnlineStore(path)) as store, watched() as memory:
        store.commit([(KEY, encode_built(built))], 0, Mark(0, 0))
        chunks = Shape(**shape).chunks()
        while some := list(islice(chunks, BACKFILL_CHUNKS)):
            columns = {name: np.concatenate([each[name] for each in some]) for name in some[0]}
            events = frame(columns, at)
            at += len(events)
            spent = timed(partial(_fold_into, store, families, events))
            wall, cpu = wall + spent["wall"], cpu + spent["cpu"]
    return {"wall": wall, "cpu": cpu, "memory": memory.bytes, "folder": str(path)}


def _refuse(family: Family, key: bytes) -> None:
    raise CorruptData(f"A blob of the family {family.id.hex()} is damaged, of the key {key.hex()}.")


def _fold_into(store: LmdbOnlineStore, families: Sequence[Family], events: EventFrame) -> None:
    """Do as the engine does with a batch, but with events that are columns already."""
    increment = fold_frames(families, {EVENT: events}, frozenset({EVENT}))
    with store.snapshot() as snapshot:
        mark = snapshot.mark()
        reached = Mark(mark.offset + len(events), max(mark.time, increment.time))
        store.commit(puts(snapshot, increment, reached.time, _refuse), mark.offset, reached)


COMMANDS: Mapping[str, Callable[..., Any]] = {
    "fill_log": fill_log,
    "fold_log": fold_log,
    "open_store": open_store,
    "online_values": online_values,
    "online_latency": online_latency,
    "training_frame": training_frame,
    "training_set": training_set,
    "backfill": backfill,
}

if __name__ == "__main__":
    serve(COMMANDS)
