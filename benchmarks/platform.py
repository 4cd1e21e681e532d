"""A running platform: Feilun's own processes on a project of its own, on loopback."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.workers import RESULTS

PATIENCE = 60.0


class Running:
    """Feilun's processes, as `running` started them."""

    def __init__(self, root: Path, port: int, pid: int) -> None:
        self.root = root
        self.port = port
        self.pid = pid

    @property
    def log(self) -> str:
        """Return the folder of its event log."""
        return str(self.root / ".feilun" / "log")

    def get(self, path: str) -> Any:
        """Return the decoded reply to a GET, or None if it is not 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return json.loads(body) if response.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def cpu(self) -> float | None:
        """Return the CPU seconds of all its processes so far; None where that is not told."""
        if sys.platform != "linux":
            return None
        ticks = sum(sum(_ticks(pid)) for pid in family(self.pid))
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(folder: Path, project: str, *command: str) -> Iterator[Running]:
    """Start ``feilun COMMAND`` on one of ``benchmarks/projects``, and end it with the block."""
    root = folder / "platform"
    root.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).parent / "projects" / f"{project}.py", root / "project.py")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (root / "feilun.toml").write_text(f"[platform]\nport = {port}\nworkers = 1\n", encoding="utf-8")
    argv = [sys.executable, "-m", "feilun", *command, "--project", str(root), "--supervised"]
    with (RESULTS / "platform.log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log)
    platform = Running(root, port, process.pid)
    try:
        deadline = time.monotonic() + PATIENCE
        while platform.get("/ready") is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The platform did not start; see {RESULTS / 'platform.log'}.")
            time.sleep(0.05)
        yield platform
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, path.read_text(encoding="ascii").split())
    return found


def _ticks(pid: int) -> tuple[int, int]:
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(after_name[11]), int(after_name[12])


def memory(pid: int) -> float:
    """Return the memory of a process and all that it started, MiB; pages shared count once."""
    total = 0
    for one in family(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total / 1024
