"""Erasure on LMDB: not a byte stays, whoever is stopped leaves the old log or the new one."""

import subprocess
import sys
from contextlib import closing

import pytest

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.adapters.lmdb.event_log import BATCH, SEGMENT
from feilun.errors import CorruptData, StoreFull, Unavailable
from feilun.ports.online_store import Mark
from feilun.records.erasure import Erasures
from feilun.testing.records import START, make_record

MARKER = "wei-xiaobao"
WHO = f"user={MARKER}"
ERASURES = Erasures(b"k" * 32).adding([WHO], START + 10**12)


def fill(log, count=3_000):
    """Append records, every seventh about somebody, and bad events."""
    records = [
        make_record(f"{MARKER}-{n}", n, MARKER, subject=WHO)
        if n % 7 == 0
        else make_record(str(n), n, "other", subject=f"user={n % 5}")
        for n in range(count)
    ]
    for at in range(0, count, 500):
        log.append(records[at : at + 500])
    log.append([make_record(f"{MARKER}-0", "changed", subject=WHO)])
    log.keep_bad("web", f"no {MARKER}", f'{{"user": "{MARKER}"}}'.encode(), START)
    return records


def hits(folder):
    """Return the files that hold the marker."""
    wanted = [MARKER.encode(), MARKER.encode("utf-16-le"), MARKER.encode("utf-16-be")]
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    ]


@pytest.fixture
def log(tmp_path):
    with closing(LmdbEventLog(tmp_path / "log")) as log:
        yield log


@pytest.mark.parametrize("known", [[WHO], []])
def test_no_file_of_the_log_has_a_byte_of_it(log, tmp_path, known):
    records = fill(log)
    assert hits(tmp_path) == ["log/data.mdb"]
    assert log.segments(WHO) == [0]
    gone = log.erase(ERASURES, known)
    assert gone == sum(record.subject == WHO for record in records)
    assert hits(tmp_path) == []
    assert log.segments(WHO) == []
    assert log.segments("user=1") == [0]


def test_a_record_that_came_later_stays_in_the_index(log):
    log.append([make_record("1", subject=WHO), make_record("2", subject=WHO, time=START + 9)])
    assert log.erase(Erasures(b"k" * 32).adding([WHO], START + 9), [WHO]) == 1
    assert log.segments(WHO) == [0]


def test_only_the_segments_of_a_subject_are_looked_at(log, monkeypatch):
    log.append([make_record("0", subject=WHO)])
    log.append([make_record(str(n)) for n in range(1, SEGMENT + 2 * BATCH)])
    bases = []
    read = LmdbEventLog._readable
    monkeypatch.setattr(
        LmdbEventLog, "_readable", lambda log, base, raw: bases.append(base) or read(log, base, raw)
    )
    assert log.erase(ERASURES, [WHO]) == 1
    assert max(bases) < SEGMENT
    assert len(log.read(SEGMENT - 5, 10)) == 10


def test_what_cannot_be_read_stops_an_erasure_before_it_begins(log, tmp_path, monkeypatch):
    fill(log, 10)
    before = (tmp_path / "log/data.mdb").read_bytes()

    def damaged(_raw):
        raise CorruptData("A batch fails its checksum.")

    with monkeypatch.context() as patch:
        patch.setattr("feilun.adapters.lmdb.event_log.decode_batch", damaged)
        for ask in (log.covered, log.erase):
            with pytest.raises(CorruptData, match="offsets 0 to 9"):
                ask(ERASURES, [WHO])
    assert (tmp_path / "log/data.mdb").read_bytes() == before
    assert len(log.read(0)) == 10


def test_a_full_disk_leaves_the_log_as_it_was(log, tmp_path, monkeypatch):
    fill(log, 3_000)
    with monkeypatch.context() as patch:
        patch.setattr("feilun.adapters.lmdb.environment.MAP_BYTES", 1 << 16)
        with pytest.raises(StoreFull):
            log.erase(ERASURES, [WHO])
    assert len(log.read(0)) == 3_000
    assert not (tmp_path / "log/new").exists()
    assert log.erase(ERASURES, [WHO]) == 429


def test_who_wants_a_folder_alone_must_have_it_alone(tmp_path):
    code = (
        "import sys, pathlib; from feilun.adapters.lmdb import LmdbEventLog\n"
        "log = LmdbEventLog(pathlib.Path(sys.argv[1])); print(log.end(), flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"0\n"
        with pytest.raises(Unavailable, match="in use"):
            LmdbEventLog(tmp_path / "log", alone=True)
        with closing(LmdbEventLog(tmp_path / "log")) as log:
            log.append([make_record("1", subject=WHO)])
            with pytest.raises(Unavailable, match="stop the platform"):
                log.erase(ERASURES, [WHO])
            assert len(log.read(0)) == 1
    finally:
        other.communicate()
    with closing(LmdbEventLog(tmp_path / "log", alone=True)) as log:
        assert log.erase(ERASURES, [WHO]) == 1


KILLED = """
import os, pathlib, sys
from feilun.adapters.lmdb import LmdbEventLog, environment, erased
from feilun.records.erasure import Erasures
point, folder = sys.argv[1], pathlib.Path(sys.argv[2])
room, name = {
    "batches": (erased.Rewrite, "copy_names"),
    "names": (erased.Rewrite, "copy_subjects"),
    "rest": (environment.shutil, "rmtree"),
    "swap": (pathlib.Path, "replace"),
    "folder": (environment, "sync_folder"),
}[point]
log = LmdbEventLog(folder)
calls = []
real = getattr(room, name)
def die(*arguments, **named):
    calls.append(1)
    if point != "rest" or len(calls) == 2:  # the first clears what a stopped call left
        os._exit(9)
    return real(*arguments, **named)
setattr(room, name, die)
log.erase(Erasures(b"k" * 32).adding(["user=wei-xiaobao"], 2**62), ["user=wei-xiaobao"])
"""


@pytest.mark.parametrize("point", ["batches", "names", "swap", "folder", "rest"])
def test_killed_anywhere_it_is_the_old_log_or_the_new(tmp_path, point):
    folder = tmp_path / "log"
    with closing(LmdbEventLog(folder)) as log:
        records = fill(log, 100)
    killed = subprocess.run([sys.executable, "-c", KILLED, point, str(folder)], check=False)
    assert killed.returncode == 9
    left = [(n, record) for n, record in enumerate(records) if record.subject != WHO]
    with closing(LmdbEventLog(folder)) as log:
        done = log.erasures() is not None
        assert done == (point in ("folder", "rest"))
        assert log.read(0) == (left if done else list(enumerate(records)))
        assert log.erase(ERASURES, [WHO]) == (0 if done else 15)
        assert log.read(0) == left
    assert hits(tmp_path) == []
    assert not (folder / "new").exists()


def test_no_file_of_the_store_has_a_byte_of_it(tmp_path):
    with closing(LmdbOnlineStore(tmp_path / "tiles")) as store:
        values = [(f"{n}".encode(), MARKER.encode() * n) for n in range(1, 900)]
        store.commit(values, 0, Mark(5, 5))
        store.discard(b"1", 50)
        assert hits(tmp_path) == ["tiles/data.mdb"]
        store.erase()
        assert hits(tmp_path) == []
        store.commit([(b"k", b"v")], 0, Mark(5, 5))
