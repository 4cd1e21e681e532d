import os
import signal
import subprocess
import sys

import pytest

from feilun.app.locks import ProcessLock, holder
from feilun.errors import Unavailable

HOLD = """
import sys, time
from pathlib import Path
from feilun.app.locks import ProcessLock
with ProcessLock(Path(sys.argv[1]), "engine") as lock:
    lock.ready()
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_tells_who_has_it_and_is_given_back(tmp_path):
    assert holder(tmp_path, "engine") is None
    with ProcessLock(tmp_path, "engine") as lock:
        assert holder(tmp_path, "engine") == (os.getpid(), "starting")
        lock.ready()
        assert holder(tmp_path, "engine") == (os.getpid(), "ready")
        assert holder(tmp_path, "gateway") is None
    assert holder(tmp_path, "engine") is None


def test_a_second_one_is_refused_with_the_pid(tmp_path):
    with (
        ProcessLock(tmp_path, "engine"),
        pytest.raises(Unavailable, match=str(os.getpid())),
        ProcessLock(tmp_path, "engine"),
    ):
        pass


def test_a_killed_holder_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert holder(tmp_path, "engine") == (process.pid, "ready")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert holder(tmp_path, "engine") is None
    with ProcessLock(tmp_path, "engine"):
        pass
