"""A disk that is full, or fails: nothing is acknowledged that is not there, and reads go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SETTING = """
import sys
from pathlib import Path
import feilun as fl
from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.definitions.compiler import compile_project
from feilun.errors import FeilunError, StoreFull, Unavailable
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.records.schema import schemas_of
from feilun.testing.records import START, make_record

user = fl.Entity("user_id", int)


class Click(fl.Event):
    user_id: fl.Field[int]
    text: fl.Field[str]


class Profile(fl.FeatureView, entity=user):
    clicks = fl.count(Click)
    texts = fl.last(Click.text, n=50)


folder = Path(sys.argv[1])
project = compile_project(sys.modules[__name__])
log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
log.declare(schemas_of(project.events.values()))
engine = Engine(project, log, store)


def append(count):
    schema = project.events["click"].schema_id
    end = log.end()
    log.append([
        make_record(str(n), n % 7, f"{n}" * 40, schema=schema, time=START)
        for n in range(end, end + count)
    ])


def clicks():
    features = project.views["profile"].features
    with OnlineReader(project, store).snapshot() as snapshot:
        columns = snapshot.read(features, {}, "user_id", range(7), snapshot.mark.time + 1)
        return snapshot.mark.offset, int(columns["profile:clicks"].values.sum())


def refused(call, kind=StoreFull):
    try:
        while True:
            call()
    except kind as error:
        return str(error)


append(100)
assert engine.run_once() == 100
"""


def run(script, *arguments, around=(), environment=None):
    command = [*around, sys.executable, "-c", SETTING + script, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.stdout == "held\n", done.stderr


@pytest.fixture
def mounted(tmp_path):
    """A command that runs another with a small file system of its own at ``tmp_path``."""
    unshare = ["unshare", "--mount", "--map-root-user"]
    try:
        subprocess.run(
            [*unshare, "mount", "-t", "tmpfs", "t", str(tmp_path)], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    mount = f'mount -t tmpfs -o size=6m t {tmp_path} && exec "$@"'
    return [*unshare, "sh", "-c", mount, "sh"]


def test_a_full_disk_stops_writes_not_reads_and_mends_itself(tmp_path, mounted):
    run(
        """
import os
ballast = folder / "ballast"
ballast.write_bytes(bytes(1_500_000))
assert "disk is full" in refused(lambda: append(100))
stored = log.end()
assert len(log.read(0, 10**6)) == stored
assert "disk is full" in refused(lambda: (engine.run_once(200), append(1)))
offset, counted = clicks()
assert offset == counted < stored, (offset, counted, stored)
ballast.unlink()
while engine.run_once():
    pass
append(10)
engine.run_once()
assert clicks() == (log.end(), log.end()), clicks()
print("held")
""",
        tmp_path,
        around=mounted,
    )


def test_a_full_disk_leaves_the_lake_as_it_was(tmp_path, mounted):
    pytest.importorskip("pyiceberg")
    run(
        """
import os
from feilun.adapters.iceberg import IcebergLake
from feilun.clock import SystemClock
from feilun.features.archive import Archiver
lake = IcebergLake(folder / "lake")
archiver = Archiver(log, lake, SystemClock())
assert archiver.run_all() == 100
append(500)
disk = os.statvfs(folder)
ballast = folder / "ballast"
ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - 8_000))
said = refused(archiver.run_all, FeilunError)
assert lake.archived() == 100, said
assert sum(len(frame) for frame in lake.frames(project.events["click"])) == 100
ballast.unlink()
assert archiver.run_all() == 500
assert sum(len(frame) for frame in lake.frames(project.events["click"])) == 600
print("held")
""",
        tmp_path,
        around=mounted,
    )


def test_a_full_disk_loses_no_turn(tmp_path, mounted):
    run(
        """
import os
from feilun.adapters.sqlite import SqliteSyncs
from feilun.ports.sync_store import SyncStatus
syncs = SqliteSyncs(folder / "platform.db")
before = syncs.statuses()
disk = os.statvfs(folder)
ballast = folder / "ballast"
ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize))
status = SyncStatus()
assert "full" in refused(lambda: syncs.save("t" * 60_000, status, {}), Unavailable)
assert syncs.statuses() == before
syncs.close()
(folder / "platform.db-shm").unlink(missing_ok=True)  # as after a start of the machine
with ballast.open("ab") as file:
    file.write(bytes(os.statvfs(folder).f_bavail * disk.f_frsize))
try:
    SqliteSyncs(folder / "platform.db")
except StoreFull as error:
    assert "No space left" in str(error)
else:
    raise AssertionError("opened")
ballast.unlink()
syncs = SqliteSyncs(folder / "platform.db")
syncs.save("t", status, {})
assert set(syncs.statuses()) == {"t"}
print("held")
""",
        tmp_path,
        around=mounted,
    )


def test_a_file_that_may_not_grow_acknowledges_nothing(tmp_path):
    """As under a quota of the user's: the system refuses, by another error."""
    run(
        """
import resource
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = (folder / "log" / "data.mdb").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
said = refused(lambda: append(100), Unavailable)
stored = log.end()
assert len(log.read(0, 10**6)) == stored
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
append(100)
assert log.end() == stored + 100
while engine.run_once():
    pass
assert clicks() == (log.end(), log.end())
print("held")
""",
        tmp_path,
    )


def test_a_full_map_stops_writes_not_reads(tmp_path):
    run(
        """
from feilun.adapters.lmdb import environment
log.close()
store.close()
environment.MAP_BYTES = 600_000
log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
said = refused(lambda: append(100))
assert "map" in said, said
stored = log.end()
assert len(log.read(0, 10**6)) == stored
log.close()
store.close()
environment.MAP_BYTES = 1 << 40
log, store = LmdbEventLog(folder / "log"), LmdbOnlineStore(folder / "tiles")
append(100)
engine = Engine(project, log, store)
while engine.run_once():
    pass
assert clicks() == (stored + 100, stored + 100)
print("held")
""",
        tmp_path,
    )


FAILING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) { return access(getenv("FAILING_DISK"), F_OK) == 0; }

#define SYNC(name) \\
    int name(int fd) { \\
        static int (*real)(int); \\
        if (fails()) { errno = EIO; return -1; } \\
        if (!real) real = dlsym(RTLD_NEXT, #name); \\
        return real(fd); \\
    }
SYNC(fsync)
SYNC(fdatasync)
"""


@pytest.fixture(scope="module")
def failing_disk(tmp_path_factory):
    """A library in which fsync fails while a file is there."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux: fsync cannot be made to fail")
    folder = tmp_path_factory.mktemp("failing")
    (folder / "failing.c").write_text(FAILING)
    library = folder / "failing.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, folder / "failing.c", "-ldl"], check=True
    )
    return library


def test_a_disk_that_fails_to_sync_is_not_tried_again(tmp_path, failing_disk):
    flag = tmp_path / "fails"
    run(
        """
import os
flag = Path(os.environ["FAILING_DISK"])
flag.touch()
before = log.end()
refused(lambda: append(1), Unavailable)
assert log.end() == before
flag.unlink()  # the next sync would succeed, without the bytes being there
for _ in range(3):
    assert "stopped taking writes" in refused(lambda: append(1), Unavailable)
assert len(log.read(0, 1_000)) == log.end() == before
assert clicks() == (100, 100)  # reads go on
log.close()
log = LmdbEventLog(folder / "log")  # as a restart does: what is on the disk is looked at anew
append(5)
assert log.end() == before + 5
engine = Engine(project, log, store)
engine.run_once()
assert clicks() == (105, 105)
print("held")
""",
        tmp_path,
        environment={"LD_PRELOAD": str(failing_disk), "FAILING_DISK": str(flag)},
    )
