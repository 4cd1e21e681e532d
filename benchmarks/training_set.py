"""``training_set``: a million rows of twenty window features over ten million events."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workers
from benchmarks.data import DAY, START, Events, Shape, load, save
from benchmarks.harness import (
    Result,
    WrongAnswer,
    interleaved,
    peers,
    workspace,
)
from benchmarks.windows import STATISTICS, WINDOWS, of_key, value

SHAPE = Shape(events=10_000_000, span=60 * DAY)
ROWS = 1_000_000
FEAST_ROWS = 100_000
"""Feast's join grows faster than its rows: fewer of them are the kinder measure."""
NOTES = {
    "feast": "Feast computes no window: it joins values that were computed beforehand, one row of "
    f"them for each query ({FEAST_ROWS:,} rows).",
    "duckdb": "The same meaning in one hand-written statement: a join with the events of the "
    "longest window, filtered for the others, on every core.",
}


def run() -> Iterator[Result]:
    """Measure rows per second, each contender on as many cores as it can use."""
    with workspace() as folder, workers.ours() as ours, peers("feast", "duckdb") as others:
        data, asked = make(folder, SHAPE, ROWS)
        ours.call("training_frame", data=data)
        out = {name: _made(folder / f"out-{name}") for name in ("feilun", *others.running)}
        contenders: dict[str, Any] = {
            "feilun": partial(
                ours.call, "training_set", project="training", data=data, spine=asked,
                out=out["feilun"],
            )
        }  # fmt: skip
        contenders["feilun"]()
        check_values("feilun", load(out["feilun"]), load(data), load(asked))
        for name, worker in others.running.items():
            contenders[name] = _PEERS[name](worker, folder, data, asked, out)
            contenders[name]()
            compare(name, load(out[name]), load(out["feilun"]))
        found = interleaved(contenders)
    rate = ROWS / found["feilun"]["wall"]
    details = {
        "events": SHAPE.events,
        "rows": ROWS,
        "features": len(WINDOWS) * len(STATISTICS),
        "wall_s": found["feilun"]["wall"],
        "cpu_s": found["feilun"]["cpu"],
    }
    for name in others.running:
        rows = found[name].get("rows", ROWS)
        theirs = {"peer_wall_s": found[name]["wall"], "peer_cpu_s": found[name]["cpu"]}
        yield Result(
            "training_set", rate, "rows/s", workers.version(name), rows / found[name]["wall"],
            note=NOTES[name], details=details | theirs,
        )  # fmt: skip
    yield from others.results("training_set", rate, "rows/s", details=details)


def make(folder: Path, shape: Shape, rows: int) -> tuple[str, str]:
    """Generate events and a spine in the second half of them; return where they lie."""
    events = shape.all()
    random = np.random.default_rng(3)
    asked = random.choice(events["user_id"], rows)
    spine = {
        "user_id": asked,
        "as_of": START + shape.span // 2 + random.integers(0, shape.span // 2, rows),
    }
    return save(events, folder / "events"), save(spine, folder / "spine")


def check_values(
    contender: str, found: Events, events: Events, asked: Events, sample: int = 50
) -> None:
    """Compare some rows with plain sums over the events.

    Raises
    ------
    WrongAnswer
        If a value differs.
    """
    for row in np.random.default_rng(4).integers(0, len(asked["as_of"]), sample):
        as_of, user = int(asked["as_of"][row]), int(asked["user_id"][row])
        mine = of_key(events, {"user_id": user})
        for name, column in found.items():
            statistic, _, window = name.partition("_")
            wanted = value(mine, statistic, window, as_of)
            if not _close(column[row], np.nan if wanted is None else wanted):
                raise WrongAnswer(f"{contender}, row {row}, {name}: {column[row]}, not {wanted}.")


def compare(contender: str, found: Events, ours: Events) -> None:
    """Compare every value of a peer with ours.

    Raises
    ------
    WrongAnswer
        If one differs.
    """
    for name, column in ours.items():
        theirs = found[name]
        if not _close(theirs, column[: len(theirs)]):
            raise WrongAnswer(f"{contender} differs from Feilun in {name}.")


def _close(found: Any, wanted: Any) -> bool:
    return np.allclose(found, wanted, rtol=1e-9, atol=0, equal_nan=True)


def _feast(
    worker: workers.Worker, folder: Path, _data: str, asked: str, out: dict[str, str]
) -> Any:
    named = worker.call(
        "open_history", folder=str(folder), spine=asked, values=out["feilun"], rows=FEAST_ROWS
    )
    return partial(worker.call, "history", name=named, out=out["feast"])


def _duckdb(
    worker: workers.Worker, _folder: Path, data: str, asked: str, out: dict[str, str]
) -> Any:
    worker.call("open_tables", data=data, spine=asked)
    return partial(
        worker.call,
        "training_set",
        windows=[[name, *window] for name, window in WINDOWS.items()],
        out=out["duckdb"],
    )


_PEERS = {"feast": _feast, "duckdb": _duckdb}


def _made(folder: Path) -> str:
    folder.mkdir()
    return str(folder)
