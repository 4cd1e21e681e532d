"""``training_set``: a million rows of twenty window features over ten million events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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

Compute = Callable[..., Mapping[str, float]]
"""Our own computation over the events, for a spine, into a folder."""
Contenders = dict[str, Callable[[], Mapping[str, float]]]

SHAPE = Shape(events=10_000_000, span=60 * DAY)
ROWS = 1_000_000
EVERY = 40
"""Of so many users Feast gets one, with all of that user's events and rows: its local engine puts
each row of the spine beside every row of its key, which for all users does not fit into memory."""
READY_ROWS = 100_000
"""Feast's join grows faster than its rows: fewer of them are the kinder measure."""
NOTES = {
    "feast": "Feast computes no window: each user's twenty values after each event were computed "
    "beforehand, as a stream pipeline writes them, and are joined as of each row, so that windows "
    f"end at the user's last event. It gets one user of {EVERY}, none of the {EVERY // 2} most "
    "active. Values ready: the join with a table of the answers themselves, one row for each of "
    f"{READY_ROWS:,} queries, which nobody has.",
    "duckdb": "The same meaning in one hand-written statement: a join with the events of the "
    "longest window, filtered for the others, on every core.",
}


class Work(NamedTuple):
    """Where the events, the spine and our own answers lie, and how more answers are computed."""

    folder: Path
    data: str
    spine: str
    answers: str
    compute: Compute


def run() -> Iterator[Result]:
    """Measure rows per second, each contender on as many cores as it can use."""
    with workspace() as folder, workers.ours() as ours, peers("feast", "duckdb") as others:
        data, asked = make(folder, SHAPE, ROWS)
        ours.call("training_frame", data=data)
        out = _made(folder / "out-feilun")
        compute = partial(ours.call, "training_set", project="training", data=data)
        work = Work(folder, data, asked, out, compute)
        contenders: Contenders = {"feilun": partial(compute, spine=asked, out=out)}
        contenders["feilun"]()
        check_values("feilun", load(out), load(data), load(asked))
        for name, worker in others.running.items():
            contenders |= _PEERS[name](worker, work)
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
        theirs = found[name]
        rows = theirs.get("rows", ROWS)
        more = {"peer_wall_s": theirs["wall"], "peer_cpu_s": theirs["cpu"], "peer_rows": rows}
        if name == "feast":
            handed = found["feast, values ready"]
            more["peer_values_ready_rows/s"] = handed["rows"] / handed["wall"]
        yield Result(
            "training_set", rate, "rows/s", workers.version(name), rows / theirs["wall"],
            note=NOTES[name], details=details | more,
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


def written(work: Work) -> tuple[str, str]:
    """Write what a stream pipeline would have, for some users, and those users' part of the spine.

    The table has one row for each event: the user's values just after it. Returns where the table
    and the spine lie.
    """
    events, spine, folder = load(work.data), load(work.spine), work.folder
    mine = of_users(events["user_id"])
    after = {"user_id": events["user_id"][mine], "as_of": events["time"][mine] + 1}
    out = _made(folder / "out-written")
    work.compute(spine=save(after, folder / "after"), out=out)
    table = {"user_id": after["user_id"], "time": after["as_of"], **load(out)}
    part = {name: column[of_users(spine["user_id"])] for name, column in spine.items()}
    rows = once(part)
    asked = {name: column[rows] for name, column in part.items()}
    return save(table, folder / "table"), save(asked, folder / "part")


def ready(work: Work) -> tuple[str, str]:
    """Write the first rows of the spine, and a table of just their answers; return table, spine."""
    spine, answers = load(work.spine), load(work.answers)
    rows = once({name: column[:READY_ROWS] for name, column in spine.items()})
    asked = {name: column[rows] for name, column in spine.items()}
    table = {"user_id": asked["user_id"], "time": asked["as_of"]}
    table |= {name: column[rows] for name, column in answers.items()}
    return save(table, work.folder / "ready"), save(asked, work.folder / "asked")


def of_users(users: Any) -> Any:
    """Return which are of the users that Feast gets."""
    return users % EVERY == EVERY // 2


def once(spine: Events) -> Any:
    """Return where each different query comes first: Feast's join wants it once."""
    pairs = np.stack([spine["user_id"], spine["as_of"]])
    return np.sort(np.unique(pairs, axis=1, return_index=True)[1])


def check_written(
    contender: str, found: Events, table: Events, asked: Events, sample: int = 200
) -> None:
    """Compare some rows with the user's newest row of the table as of that moment.

    Raises
    ------
    WrongAnswer
        If a value differs.
    """
    for row in np.random.default_rng(5).integers(0, len(asked["as_of"]), sample):
        mine = of_key(table, {"user_id": int(asked["user_id"][row])})
        before = np.flatnonzero(mine["time"] <= asked["as_of"][row])
        for name, column in found.items():
            wanted = mine[name][before[-1]] if len(before) else np.nan
            if not _close(column[row], wanted):
                raise WrongAnswer(f"{contender}, row {row}, {name}: {column[row]}, not {wanted}.")


def _close(found: Any, wanted: Any) -> bool:
    return np.allclose(found, wanted, rtol=1e-9, atol=0, equal_nan=True)


def _feast(worker: workers.Worker, work: Work) -> Contenders:
    folder = work.folder
    table, spine = written(work)
    out = _made(folder / "out-feast")
    joined = _joining(worker, folder, table, spine, out)
    joined()
    check_written("feast", load(out), load(table), load(spine))
    table, spine = ready(work)
    out = _made(folder / "out-ready")
    found = _joining(worker, folder, table, spine, out)
    found()
    answers = load(table)
    compare("feast", load(out), {name: answers[name] for name in load(work.answers)})
    return {"feast": joined, "feast, values ready": found}


def _joining(worker: workers.Worker, folder: Path, table: str, spine: str, out: str) -> Any:
    name = worker.call("open_history", folder=str(folder), table=table, spine=spine)
    return partial(worker.call, "history", name=name, out=out)


def _duckdb(worker: workers.Worker, work: Work) -> Contenders:
    worker.call("open_tables", data=work.data, spine=work.spine)
    out = _made(work.folder / "out-duckdb")
    windows = [[name, *window] for name, window in WINDOWS.items()]
    computed = partial(worker.call, "training_set", windows=windows, out=out)
    computed()
    compare("duckdb", load(out), load(work.answers))
    return {"duckdb": computed}


_PEERS = {"feast": _feast, "duckdb": _duckdb}


def _made(folder: Path) -> str:
    folder.mkdir()
    return str(folder)
