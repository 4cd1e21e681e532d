"""Processes that are kept running: what ends starts again, and takes no other with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feilun.app import process
from feilun.app.process import FIRST_DELAY, LAST_DELAY, SETTLED, Restarts

WORK = """
import os
import sys
import time
from pathlib import Path

from feilun.app.workers import keep_running


def work(folder, name):
    begun = folder / str(os.getpid())
    begun.write_text(name)
    if (folder / "broken").exists():
        raise SystemExit(3)
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    from work import work as target

    keep_running(2, target, Path(sys.argv[1]), "worker")
"""


@pytest.fixture
def kept(tmp_path, until):
    """Two processes, their keeper, and the folder in which each writes that it has begun."""
    (tmp_path / "work.py").write_text(WORK)
    folder = tmp_path / "begun"
    folder.mkdir()
    with (tmp_path / "log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, str(tmp_path / "work.py"), str(folder)], stdout=log, stderr=log
        )
    try:
        until(lambda: len(alive(folder)) == 2)
        yield keeper, folder
    finally:
        keeper.terminate()
        keeper.wait(30)
        until(lambda: not alive(folder))


def alive(folder):
    return {int(file.name) for file in folder.iterdir() if file.name.isdigit() and runs(file.name)}


def runs(pid):
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


pytestmark = [
    pytest.mark.xdist_group("up"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who is alive"),
]


def test_one_that_is_killed_again_and_again_ends_no_other(kept, until):
    keeper, folder = kept
    victim, other = sorted(alive(folder))
    for _ in range(3):
        os.kill(victim, signal.SIGKILL)
        (victim,) = until(lambda gone=victim: alive(folder) - {gone, other})
    assert keeper.poll() is None
    assert other in alive(folder)


def test_what_cannot_start_is_tried_later_each_time_and_the_other_goes_on(kept, until):
    keeper, folder = kept
    victim, other = sorted(alive(folder))
    (folder / "broken").touch()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(list(folder.iterdir())) >= 3 + 3)
    assert keeper.poll() is None
    assert other in alive(folder)
    (folder / "broken").unlink()
    until(lambda: len(alive(folder)) == 2)
    assert other in alive(folder)


def test_they_end_with_their_keeper_however_it_ends(kept, until):
    keeper, folder = kept
    keeper.kill()
    keeper.wait(30)
    until(lambda: not alive(folder))


def test_waits_grow_until_it_settles(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(process.time, "monotonic", lambda: now)
    restarts = Restarts()
    waits = []
    for _ in range(9):
        restarts.begin()
        waits.append(restarts.plan())
        assert restarts.due == now + waits[-1]
        now = restarts.due
    assert waits[0] == FIRST_DELAY
    assert waits == sorted(waits)
    assert waits[-1] == LAST_DELAY
    restarts.begin()
    now += SETTLED + 1
    assert restarts.plan() == FIRST_DELAY
