"""Processes that do the work: Feilun's in this environment, each peer's in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).parent / "requirements"
RESULTS = Path(__file__).parent / "results"
"""What the harness writes; not in version control."""


class PeerMissing(Exception):
    """A peer cannot be measured here; the message says why."""


class WorkerFailed(Exception):
    """A worker's command raised, or the worker died; the message holds its traceback."""


class Worker:
    """A process that speaks `benchmarks.protocol`; it ends with the ``with`` block.

    Parameters
    ----------
    python : Path
        The interpreter of its environment.
    module : str
        What it runs.
    """

    def __init__(self, python: Path | str, module: str) -> None:
        self.module = module
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{module}.log").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", module],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def call(self, name: str, /, **arguments: Any) -> Any:
        """Do a command in the worker and return its result.

        Raises
        ------
        WorkerFailed
            If it raised there.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": name, "with": arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerFailed(
                f"{self.module} ended with code {self._process.wait()}; "
                f"see {RESULTS / self.module}.log."
            )
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerFailed(f"{self.module}, {name}:\n{reply['error']}")
        return reply["ok"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it end by itself; end it if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def ours(module: str = "benchmarks.ours") -> Worker:
    """Start a worker in the environment that the harness runs in."""
    return Worker(sys.executable, module)


def peer(name: str) -> Worker:
    """Start a peer's worker; its environment is made at first use.

    Raises
    ------
    PeerMissing
        If the environment cannot be made, or the worker does not start.
    """
    python = environment(name)
    worker = Worker(python, f"benchmarks.peers.{name}")
    try:
        worker.call("ping")
    except WorkerFailed as error:
        raise PeerMissing(f"{name} does not start: {error}") from error
    return worker


def version(name: str) -> str:
    """Return the pinned ``package==version`` of a peer."""
    return (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").split()[0]


def environment(name: str) -> Path:
    """Return the interpreter of a peer's environment, which is made at first use.

    Raises
    ------
    PeerMissing
        If it cannot be made.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = requirements.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    uv = str(Path(sys.executable).parent / "uv")
    _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], name)
    _run([uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)], name)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except OSError as error:
        raise PeerMissing(f"{name} cannot be installed: {error}") from error
    if done.returncode:
        raise PeerMissing(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")
