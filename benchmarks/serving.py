"""``score_row``, ``lookup_score``, ``rank_500`` and ``start_ready``: models behind HTTP.

Every server serves the same LightGBM model in one worker, alone on the machine but for the load,
which is the same for all; they are started and measured in turns.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workers
from benchmarks.harness import RUNS, Result, expect, medians, workspace
from benchmarks.platform import family, memory, running

CONNECTIONS = 64
START_SECONDS = 180.0
WARM, SECONDS = 1.0, 3.0
OVERLOAD_WARM, OVERLOAD_SECONDS = 3.0, 60.0
COLUMNS = 10
EVENTS, USERS = 200_000, 10_000
ITEMS = 500
REQUESTS = 200
PEERS = ("fastapi", "litserve", "bentoml", "mlflow", "ray")
SCORE_NOTE = (
    "Feilun checks the row against the capability's types and has written the prediction to its "
    "log, durably, before it answers; the others write nothing. The limit is an ASGI echo of the "
    "body on the same server, Uvicorn."
)
LOOKUP_NOTE = (
    "Feast is handed the ten values precomputed and finds them again; Feilun computes them from "
    "tiles, and has written the prediction to its log, durably, before it answers."
)
OVERLOAD_NOTE = (
    "The limit is the same gateway at its peak, with a tenth of the callers, before and after. "
    "Whoever is refused waits the seconds that Retry-After asks for, and up to as long again."
)
START_NOTE = (
    "From the start of the command to the first score over HTTP; memory is the proportional set "
    "size of all the server's processes then. After the load (see the details) Feilun's counts "
    "pages of the log that it wrote, which are mapped and which the system takes back."
)


@dataclass
class Bench:
    """What all servers share: the files they are started with and the load."""

    folder: Path
    data: str
    model: str
    rows: str
    load: workers.Worker
    served: workers.Worker


@dataclass
class Contender:
    """A server: its name, how it is started, where it scores, and with which bodies.

    ``start`` takes a folder and gives the port and the process; ``answer`` finds what is compared
    in a reply.
    """

    name: str
    start: Callable[[Path], Any]
    path: str
    bodies: Sequence[Any]
    answer: Callable[[Any], Any]
    rounds: list[Mapping[str, float]] = field(default_factory=list)


def score_row() -> Iterator[Result]:
    """Score rows that requests bring; also how soon and in how much memory each server does."""
    random = np.random.default_rng(5)
    rows = random.lognormal(3, 2, (REQUESTS, COLUMNS)).astype(np.float32).astype(float).tolist()
    with _bench() as bench:
        wanted = bench.served.call("predict", model=bench.model, rows=rows)
        contenders = [_score_contender(bench, rows), _echo(rows)]
        missing = {}
        for name in PEERS:
            try:
                contenders.append(_peer(bench, name, rows))
            except workers.PeerMissing as error:
                missing[name] = str(error)
        found = _measure(bench, contenders, wanted)
    mine, limit = found["feilun"], found.pop("limit")
    details = {
        "connections": CONNECTIONS,
        "seconds_a_run": SECONDS,
        "p99_ms": {name: each["p99"] * 1e3 for name, each in found.items()},
        "p50_ms": {name: each["p50"] * 1e3 for name, each in found.items()},
    }
    more: dict[str, Any] = {"limit": limit["rate"], "note": SCORE_NOTE, "details": details}
    for name in PEERS:
        if name in found:
            peer, theirs = _version(name), found[name]
            yield Result("score_row", mine["rate"], "req/s", peer, theirs["rate"], **more)
            yield Result(
                "score_row_p99", mine["p99"] * 1e3, "ms", peer, theirs["p99"] * 1e3, note=SCORE_NOTE
            )
            yield Result("start_ready", mine["start"], "s", peer, theirs["start"], note=START_NOTE)
            yield Result(
                "start_ready_memory", mine["mib"], "MiB", peer, theirs["mib"], note=START_NOTE,
                details={"loaded_mib": {each: run["mib_loaded"] for each, run in found.items()}},
            )  # fmt: skip
        else:
            yield Result("score_row", mine["rate"], "req/s", name, reason=missing[name], **more)


def lookup_score() -> Iterator[Result]:
    """Look a user's features up, score them, log the prediction."""
    yield from _lookup("lookup_score", "rate", "req/s", 1.0, CONNECTIONS)


def rank_500() -> Iterator[Result]:
    """Rank 500 candidates, one request at a time."""
    yield from _lookup("rank_500", "p50", "ms", 1e3, 1)


def overload() -> Iterator[Result]:
    """Have ten times as many callers as keep one worker busy, for a minute."""
    with _bench() as bench:
        rows = np.random.default_rng(5).lognormal(3, 2, (REQUESTS, COLUMNS)).tolist()
        place = bench.folder / "overload"
        place.mkdir()
        bench.load.call("prepare", path="/api/score", bodies=_score_bodies(rows))
        with _platform(bench, place) as (port, _):
            _first_reply(bench.load, port)
            load: dict[str, Any] = {"port": port, "warm": OVERLOAD_WARM, "patient": True}
            before = bench.load.call("flood", connections=CONNECTIONS, seconds=SECONDS, **load)
            more = bench.load.call(
                "flood", connections=10 * CONNECTIONS, seconds=OVERLOAD_SECONDS, **load
            )
            after = bench.load.call("flood", connections=CONNECTIONS, seconds=SECONDS, **load)
    peak = {name: (before[name] + after[name]) / 2 for name in before}
    details = {"connections": 10 * CONNECTIONS, "peak": peak, "overload": more}
    yield Result(
        "overload", more["rate"], "req/s", limit=peak["rate"], note=OVERLOAD_NOTE, details=details
    )
    yield Result(
        "overload_p99", more["p99"] * 1e3, "ms", limit=peak["p99"] * 1e3, note=OVERLOAD_NOTE
    )
    yield Result("overload_refused_p99", more["refused_p99"] * 1e3, "ms", note=OVERLOAD_NOTE)


def _lookup(name: str, which: str, unit: str, scale: float, connections: int) -> Iterator[Result]:
    many = name == "rank_500"
    path = "/rank" if many else "/lookup"
    random = np.random.default_rng(5)
    with _bench() as bench:
        users = [row["user_id"] for row in json.loads(Path(bench.rows).read_text("utf-8"))]
        bodies: list[Any]
        if many:
            asked = random.choice(users, (REQUESTS, ITEMS)).tolist()
            bodies = [{"user_id": list(dict.fromkeys(some))} for some in asked]
        else:
            bodies = [{"user_id": user} for user in random.choice(users, REQUESTS).tolist()]
        contenders = [
            Contender(
                "feilun", lambda place: _platform(bench, place), f"/api{path}", bodies, _result
            )
        ]
        reason = None
        try:
            workers.environment("feast")
            contenders.append(
                Contender(
                    "feast",
                    lambda place: _server(bench, "feast", place, bench.rows),
                    path,
                    bodies,
                    lambda reply: reply["users"] if many else reply["score"],
                )
            )
        except workers.PeerMissing as error:
            reason = str(error)
        found = _measure(bench, contenders, None, connections)
    mine, theirs = found["feilun"], found.get("feast")
    details = {"connections": connections, "runs": found}
    yield Result(
        name,
        mine[which] * scale,
        unit,
        workers.version("feast"),
        None if theirs is None else theirs[which] * scale,
        reason=reason,
        note=LOOKUP_NOTE,
        details=details,
    )


@contextmanager
def _bench() -> Iterator[Bench]:
    with (
        workspace() as folder,
        workers.ours("benchmarks.served") as served,
        workers.ours("benchmarks.http_load") as load,
    ):
        model = served.call("train", folder=str(folder))
        data = served.call("build", folder=str(folder), model=model, events=EVENTS, users=USERS)
        rows = folder / "rows.json"
        rows.write_text(json.dumps(served.call("values", data=data, users=USERS)), encoding="utf-8")
        yield Bench(folder, data, model, str(rows), load, served)


def _measure(
    bench: Bench,
    contenders: Sequence[Contender],
    wanted: Sequence[float] | None,
    connections: int = CONNECTIONS,
) -> dict[str, dict[str, float]]:
    """Start, check, load and stop each server in turns; return the medians of its figures."""
    for number in range(RUNS):
        for contender in contenders:
            place = bench.folder / f"{contender.name}-{number}"
            place.mkdir()
            contender.rounds.append(_round(bench, contender, place, wanted, connections))
    return {contender.name: medians(contender.rounds) for contender in contenders}


def _round(
    bench: Bench,
    contender: Contender,
    place: Path,
    wanted: Sequence[float] | None,
    connections: int,
) -> dict[str, float]:
    bench.load.call("prepare", path=contender.path, bodies=list(contender.bodies))
    with ExitStack() as stack:
        before = time.perf_counter()
        port, pid = stack.enter_context(contender.start(place))
        start = _first_reply(bench.load, port) - before
        mib = memory(pid)
        if wanted is not None and contender.name != "limit":
            for number in range(5):
                found = contender.answer(bench.load.call("reply", port=port, number=number))
                expect(contender.name, round(found, 6), round(wanted[number], 6))
        spent = bench.load.call(
            "flood", port=port, connections=connections, warm=WARM, seconds=SECONDS
        )
        return {**spent, "start": start, "mib": mib, "mib_loaded": memory(pid)}


def _first_reply(load: workers.Worker, port: int) -> float:
    """Wait until a server scores; return when it did."""
    deadline = time.perf_counter() + START_SECONDS
    while True:
        try:
            load.call("reply", port=port)
        except workers.WorkerFailed:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.01)
        else:
            return time.perf_counter()


def _score_contender(bench: Bench, rows: Sequence[Sequence[float]]) -> Contender:
    bodies = _score_bodies(rows)
    return Contender("feilun", lambda place: _platform(bench, place), "/api/score", bodies, _result)


def _score_bodies(rows: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    return [
        {"call_id": number, **{f"x{place}": x for place, x in enumerate(row)}}
        for number, row in enumerate(rows)
    ]


def _result(reply: Any) -> Any:
    return reply["result"]


def _peer(bench: Bench, name: str, rows: Sequence[Sequence[float]]) -> Contender:
    workers.environment(f"serve_{name}")
    mlflow = name == "mlflow"
    bodies = [{"inputs": [row]} if mlflow else {"x": row} for row in rows]

    def answer(reply: Any) -> Any:
        return reply["predictions"][0] if mlflow else reply["score"]

    path = "/invocations" if mlflow else "/score"
    return Contender(name, lambda place: _server(bench, name, place), path, bodies, answer)


def _echo(rows: Sequence[Sequence[float]]) -> Contender:
    bodies = [{"x": row} for row in rows]
    return Contender("limit", lambda _: _echoing(), "/echo", bodies, lambda _: None)


@contextmanager
def _platform(bench: Bench, place: Path) -> Iterator[tuple[int, int]]:
    bench.served.call("place", data=bench.data, root=str(place / "platform"))
    with running(place, "scoring", "serve", "gateway") as platform:
        yield platform.port, platform.pid


def _server(bench: Bench, name: str, place: Path, *more: str) -> Any:
    environment = "feast" if name == "feast" else f"serve_{name}"
    python = workers.environment(environment)
    module = f"benchmarks.peers.serving.{name}"
    return _process([str(python), "-m", module], [bench.model, *more], place)


def _echoing() -> Any:
    return _process([sys.executable, "-m", "benchmarks.echo"], [], None)


@contextmanager
def _process(
    command: Sequence[str], arguments: Sequence[str], place: Path | None
) -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | ({"TMPDIR": str(place)} if place else {})
    with (workers.RESULTS / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(port), *arguments],
            cwd=workers.ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield port, process.pid
    finally:
        children = family(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children[1:]:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _version(name: str) -> str:
    return workers.version(f"serve_{name}")
