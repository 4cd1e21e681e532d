"""Readers that stop in the middle of a read: they pin old pages, and the file must not grow on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from feilun.adapters.lmdb import LmdbOnlineStore, environment
from feilun.errors import StoreFull
from feilun.ports.online_store import Mark

READER = """
import sys
from pathlib import Path
from feilun.adapters.lmdb import LmdbOnlineStore
store = LmdbOnlineStore(Path(sys.argv[1]))
with store.snapshot() as moment:
    print(moment.mark().offset, flush=True)
    sys.stdin.read()
"""
QUOTA = 1_000_000


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_SPARE_BYTES", 0)
    store = LmdbOnlineStore(tmp_path, quota_bytes=QUOTA)
    store.commit([(b"key", b"old")], 0, Mark(1, 1))
    yield store
    store.close()


@pytest.fixture
def reader(store, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", READER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    yield process
    process.kill()
    process.communicate()


def write_much(store: LmdbOnlineStore, times: int) -> None:
    with store.snapshot() as moment:
        offset = moment.mark().offset
    for at in range(offset, offset + times):
        store.commit([(b"key", os.urandom(20_000))], at, Mark(at + 1, at + 1))


def size(folder) -> int:
    return (folder / "data.mdb").stat().st_size


def test_a_stopped_reader_is_named_before_the_file_has_grown_far(store, reader, tmp_path):
    reader.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreFull, match=f"process {reader.pid}"):
        write_much(store, 1_000)
    assert size(tmp_path) < 10 * QUOTA
    with store.snapshot() as moment:  # reads go on, at the last commit
        assert moment.mark().offset > 50
    reader.kill()
    reader.wait()
    write_much(store, 1_000)  # and writes too, once it is gone
    assert size(tmp_path) < 11 * QUOTA


def test_a_killed_reader_is_forgotten(store, reader, tmp_path):
    reader.kill()
    reader.wait()
    write_much(store, 500)
    assert size(tmp_path) < 10 * QUOTA


def test_readers_that_end_cost_nothing(store, tmp_path):
    write_much(store, 300)
    assert size(tmp_path) < QUOTA
