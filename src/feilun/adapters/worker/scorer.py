"""The gateway's side: starts the worker, asks it within a deadline, starts it again."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from feilun.adapters.worker.exchange import Gone, exchange
from feilun.adapters.worker.frames import Header
from feilun.errors import ModelError
from feilun.ports.scorer import check_matrix

START_SECONDS = 60.0
"""How long a worker may take to import its library and to load its model."""
DEADLINE_SECONDS = 0.9
"""For one answer; below what a request waits for a slow scorer."""
PAUSE_SECONDS = 1.0
"""Between two starts: a model that ends its process at once must not keep the machine busy."""
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""What libraries of linear algebra take from the environment."""


class WorkerScorer:
    """A model in a process of its own. Thread-safe: calls take turns.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments; it calls :func:`feilun.adapters.worker.serve`.
    data : bytes
        The model, which is sent to each worker that is started.
    columns : int
        How many columns it has.

    Raises
    ------
    ModelError
        If the worker cannot load the model.
    """

    def __init__(self, command: Sequence[str], data: bytes, columns: int) -> None:
        self._command = list(command)
        self._data = data
        self._columns = columns
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._reason = ""
        self._running: list[subprocess.Popen[bytes]] = []
        weakref.finalize(self, _end_all, self._running)
        self._start()
        if self._process is None:
            raise ModelError(self._reason)

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row.

        Raises
        ------
        ModelError
            If the matrix does not fit, the model fails or is too slow, or its worker is not there:
            then it is started again.
        """
        check_matrix(matrix, self._columns)
        if len(matrix) == 0:
            return np.empty(0, np.float64)
        until = time.monotonic() + DEADLINE_SECONDS
        if not self._turn.acquire(timeout=DEADLINE_SECONDS):
            raise ModelError("The model's worker is busy.")
        try:
            scores = self._ask(matrix, until)
        finally:
            self._turn.release()
        if len(scores) != len(matrix):
            raise ModelError(f"The model gave {len(scores)} scores for {len(matrix)} rows.")
        return scores

    def _ask(self, matrix: npt.NDArray[np.float32], until: float) -> npt.NDArray[np.float64]:
        process = self._process
        if process is None:
            self._start_again()
            raise ModelError(f"The model's worker is being started again. {self._reason}".strip())
        try:
            data = matrix.tobytes()
            header, reply = exchange(
                *_pipes(process), Header(len(data), self._columns), data, until
            )
        except Gone as gone:
            self._process = None
            self._reason = f"The model's worker {gone}."
            _end(process, self._running)
            self._start_again()
            raise ModelError(f"{self._reason} It is started again.") from gone
        if header.error:
            raise ModelError(f"The model failed: {header.error}")
        return np.frombuffer(reply, np.float64).copy()

    def _start_again(self) -> None:
        """Start a worker in a thread, so that no request waits for it."""
        if self._starting.locked():
            return
        threading.Thread(target=self._start, name="worker-start", daemon=True).start()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._process is not None:
                return
            time.sleep(max(0.0, self._started + PAUSE_SECONDS - time.monotonic()))
            self._started = time.monotonic()
            process = subprocess.Popen(  # noqa: S603  the command is an adapter's, never a file's
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **_ONE_THREAD},
            )
            self._running.append(process)
            header = Header(len(self._data), self._columns)
            try:
                until = self._started + START_SECONDS
                said, _ = exchange(*_pipes(process), header, self._data, until)
            except Gone as gone:
                said = Header(0, error=f"The model's worker {gone}.")
            if said.error:
                self._reason = said.error
                _end(process, self._running)
            else:
                self._process = process
        except OSError as error:
            self._reason = f"The model's worker cannot be started: {error}."
        finally:
            self._starting.release()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Return where a worker is asked, and where it answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin.fileno(), process.stdout.fileno()


def _end(process: subprocess.Popen[bytes], running: list[subprocess.Popen[bytes]]) -> None:
    """End a worker and give back its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    with suppress(ValueError):
        running.remove(process)


def _end_all(running: list[subprocess.Popen[bytes]]) -> None:
    for process in list(running):
        _end(process, running)
