"""A model in a process of its own: whatever happens to it, there is a ModelError in time."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from feilun.adapters.worker import WorkerScorer, scorer
from feilun.errors import ModelError
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam

COMMAND = [sys.executable, str(Path(__file__).parent / "linear_worker.py")]
WEIGHTS = list(range(1, COLUMNS + 1))
MODEL = json.dumps(WEIGHTS).encode()
ROWS = np.ones((3, COLUMNS), np.float32)


class Loader:
    format = "linear/1"
    waits = True

    def load(self, data, columns):
        return WorkerScorer(COMMAND, data, columns)

    def column_names(self, data):
        return ()


class TestWorker(ScorerLoaderExam):
    def make(self):
        return Loader()

    def sample(self):
        x = np.random.default_rng(1).normal(size=(300, COLUMNS)).astype(np.float32)
        return Sample(MODEL, x, x.astype(float) @ WEIGHTS)


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(scorer, "PAUSE_SECONDS", 0.05)
    made = WorkerScorer(COMMAND, MODEL, COLUMNS)
    yield made
    scorer._end_all(made._running)


def odd(number):
    rows = ROWS.copy()
    rows[0, 0] = number
    return rows


def again(worker):
    """Score until the worker has come back; each try before is a ModelError."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return worker.score(ROWS).tolist()
        except ModelError as error:
            assert "started again" in str(error)
            time.sleep(0.02)
    raise AssertionError("It did not come back.")


def test_one_that_is_killed_is_started_again(worker):
    for _ in range(2):
        first = worker.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ModelError, match=r"has ended.*started again"):
            worker.score(ROWS)
        assert again(worker) == [10, 10, 10]
        assert worker.pid != first


def test_one_that_ends_itself_is_started_again(worker):
    with pytest.raises(ModelError, match="has ended"):
        worker.score(odd(1001))
    assert again(worker) == [10, 10, 10]


def test_one_that_hangs_is_ended_at_the_deadline(worker, monkeypatch):
    monkeypatch.setattr(scorer, "DEADLINE_SECONDS", 0.3)
    first = worker.pid
    began = time.monotonic()
    with pytest.raises(ModelError, match="too slow"):
        worker.score(odd(1002))
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    monkeypatch.setattr(scorer, "DEADLINE_SECONDS", 10)
    assert again(worker) == [10, 10, 10]


def test_one_that_is_stopped_does_not_hold_a_large_matrix_up(worker, monkeypatch):
    monkeypatch.setattr(scorer, "DEADLINE_SECONDS", 0.3)
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(ModelError, match="too slow"):  # more than a pipe holds
        worker.score(np.ones((200_000, COLUMNS), np.float32))


def test_what_the_model_raises_is_told_and_the_worker_stays(worker):
    first = worker.pid
    with pytest.raises(ModelError, match="RuntimeError: no"):
        worker.score(odd(1003))
    with pytest.raises(ModelError, match="2 scores for 3 rows"):
        worker.score(odd(1005))
    assert worker.score(odd(1004)).tolist() == [1013, 10, 10]
    assert worker.pid == first


def test_a_model_that_does_not_load_is_refused(monkeypatch):
    with pytest.raises(ModelError, match="weights for"):
        WorkerScorer(COMMAND, b"[1]", COLUMNS)
    monkeypatch.setattr(scorer, "START_SECONDS", 0.3)
    with pytest.raises(ModelError, match="too slow"):
        WorkerScorer(COMMAND, b"slow", COLUMNS)
    with pytest.raises(ModelError, match="cannot be started"):
        WorkerScorer(["/nowhere/python"], MODEL, COLUMNS)
    with pytest.raises(ModelError, match="has ended"):
        WorkerScorer([sys.executable, "-c", ""], MODEL, COLUMNS)


def test_it_ends_with_its_scorer():
    made = WorkerScorer(COMMAND, MODEL, COLUMNS)
    pid = made.pid
    del made
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_ends_with_its_gateway(tmp_path):
    code = (
        "import sys, time; from feilun.adapters.worker import WorkerScorer\n"
        f"made = WorkerScorer({COMMAND!r}, {MODEL!r}, {COLUMNS})\n"
        "print(made.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as gateway:
        pid = int(gateway.stdout.readline())
        gateway.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{pid}").exists()
