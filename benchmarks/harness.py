"""What every benchmark shares: results, medians of interleaved runs, and what is written down."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.workers import RESULTS, ROOT, PeerMissing, Worker, peer

RUNS = 5
RESULTS_FILE = RESULTS / "results.jsonl"


class WrongAnswer(Exception):
    """A contender did not compute what it was asked to; its time means nothing."""


@dataclass(frozen=True)
class Result:
    """One measured figure beside its peer's and its limit.

    Attributes
    ----------
    name, value, unit : str, float, str
        What was measured: a time or a size (less is better), or a rate (``…/s``, more is better).
    peer, peer_value : str, float
        Who did the same work in the same run, and its figure; None where there is no peer, or
        where it could not be measured (``reason`` then says why).
    limit : float
        What the machine allows: the figure of the least that the work needs; None if unknown.
    note : str
        How the work or its form differs; for the README.
    details : mapping
        Sizes, spreads, cadences: whatever is needed to read the figure.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    limit: float | None = None
    reason: str | None = None
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer: above 1 is ahead."""
        if self.peer_value is None:
            return None
        return self.value / self.peer_value if self._is_rate else self.peer_value / self.value

    @property
    def limit_ratio(self) -> float | None:
        """How many times the limit's time or cost."""
        if self.limit is None:
            return None
        return self.limit / self.value if self._is_rate else self.value / self.limit

    @property
    def _is_rate(self) -> bool:
        return self.unit.endswith("/s")

    def line(self) -> str:
        """Return the JSON object that ``make bench`` prints."""
        shown = {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": _rounded(self.peer_value),
            "ratio": _rounded(self.ratio),
            "limit": _rounded(self.limit),
            "limit_ratio": _rounded(self.limit_ratio),
        }
        return json.dumps(
            shown | ({"reason": self.reason} if self.reason else {}), ensure_ascii=False
        )

    def record(self, environment: Mapping[str, Any]) -> str:
        """Return the line that the results file keeps."""
        more = {"note": self.note, "details": self.details, "environment": environment}
        return json.dumps(json.loads(self.line()) | more, ensure_ascii=False)


@dataclass
class Peers:
    """The peers of one benchmark: those that run, and why the others do not."""

    running: dict[str, Worker] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def results(self, name: str, value: float, unit: str, **more: Any) -> Iterator[Result]:
        """Yield a result for each missing peer, so that it is reported and not left out."""
        for who, reason in self.missing.items():
            yield Result(name, value, unit, peer=who, reason=reason, **more)


@contextmanager
def peers(*names: str) -> Iterator[Peers]:
    """Start peers; end them with the block."""
    found = Peers()
    try:
        for name in names:
            try:
                found.running[name] = peer(name)
            except PeerMissing as error:
                found.missing[name] = str(error)
        yield found
    finally:
        for worker in found.running.values():
            worker.__exit__(None, None, None)


@contextmanager
def workspace() -> Iterator[Path]:
    """Make a folder on the disk of the repository, where the platform's data would lie."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=RESULTS) as folder:
        yield Path(folder)


def interleaved(
    contenders: Mapping[str, Callable[[], Mapping[str, float]]], runs: int = RUNS
) -> dict[str, dict[str, float]]:
    """Let contenders run in turns and return the medians of each one's figures.

    In turns, so that what else the machine does falls on all alike. Contenders are warm: each did
    the work, or some of it, when its answers were checked.
    """
    taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return {name: medians(all_runs) for name, all_runs in taken.items()}


def medians(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median of each figure over the runs."""
    runs = list(runs)
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: statistics.median(run[name] for run in runs) for name in names}


def core_seconds(spent: Mapping[str, float]) -> float:
    """Return the seconds of one core: the CPU time, but the wall time where that is longer.

    Work that waits for the disk pays for the wait, and work on several cores for all of them.
    """
    return max(spent["wall"], spent["cpu"])


def expect(contender: str, found: object, wanted: object) -> None:
    """Check a contender's answer on a sample.

    Raises
    ------
    WrongAnswer
        If it is not the wanted one.
    """
    if found != wanted:
        raise WrongAnswer(f"{contender} answered {str(found)[:300]} instead of {str(wanted)[:300]}")


def environment() -> dict[str, Any]:
    """Describe the machine, the versions and the commit."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "lmdb", "msgspec", "uvicorn")},
        "commit": _commit(),
    }


def show(results: Iterable[Result]) -> None:
    """Print what people read, and write it down; the JSON lines come last."""
    results = list(results)
    rows = [("name", "value", "unit", "peer", "peer's", "ratio", "limit", "× limit")]
    for result in results:
        figures = (result.peer_value, result.ratio, result.limit, result.limit_ratio)
        shown = [figure(number) for number in figures]
        rows.append(
            (result.name, figure(result.value), result.unit, result.peer or "–", *shown)  # type: ignore[arg-type]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    for result in results:
        if result.reason:
            print(f"{result.name}: {result.peer} was not measured: {result.reason}")
    for result in results:
        print(result.line(), flush=True)


def keep(results: Iterable[Result], path: Path = RESULTS_FILE) -> None:
    """Add results to the results file."""
    path.parent.mkdir(exist_ok=True)
    where = environment()
    with path.open("a", encoding="utf-8") as file:
        for result in results:
            print(result.record(where), file=file)


def figure(number: float | None) -> str:
    """Write a number with three digits that count, or a dash.

    >>> [figure(n) for n in (None, 0.012345, 3.14159, 271.828, 1234567.0)]
    ['–', '0.0123', '3.14', '272', '1,234,567']
    """
    if number is None:
        return "–"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--short") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, check=True, encoding="utf-8"
    ).stdout.strip()
