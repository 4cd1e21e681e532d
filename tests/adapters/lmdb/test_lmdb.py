"""What only the LMDB adapters promise: damage, quotas, processes, formats."""

from __future__ import annotations

import multiprocessing
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import lmdb
import msgspec
import pytest

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore, environment
from feilun.clock import DAY
from feilun.errors import (
    ConfigError,
    Conflict,
    CorruptData,
    InputError,
    StoreFull,
    Unavailable,
)
from feilun.ports.online_store import Mark
from feilun.records.codec import encode_batch
from feilun.testing.records import START, make_record


def _tamper(folder: Path, database: bytes, key: bytes, change) -> None:
    with lmdb.open(str(folder), max_dbs=8, map_size=environment.MAP_BYTES) as env:
        db = env.open_db(database)
        with env.begin(write=True) as txn:
            value = change(txn.get(key, db=db))
            if value is None:
                txn.delete(key, db=db)
            else:
                txn.put(key, value, db=db)


def _number(offset: int) -> bytes:
    return offset.to_bytes(8, "big")


@pytest.fixture
def damaged(tmp_path):
    """Three batches at 0, 4 and 6; a function that changes the middle one and reopens the log."""
    log = LmdbEventLog(tmp_path)
    for first, last in ((0, 4), (4, 6), (6, 9)):
        log.append([make_record(str(n), "some text", n) for n in range(first, last)])
    log.close()
    opened = []

    def damage(change) -> LmdbEventLog:
        _tamper(tmp_path, b"batches", _number(4), change)
        opened.append(LmdbEventLog(tmp_path))
        return opened[-1]

    yield damage
    for log in opened:
        log.close()


def _check_damage(log: LmdbEventLog) -> None:
    assert [offset for offset, _ in log.read(0)] == [0, 1, 2, 3]
    assert [(batch.base, batch.end) for batch in log.read_batches(0)] == [(0, 4)]
    for start in (4, 5):
        for read in (log.read, log.read_batches):
            with pytest.raises(CorruptData, match="offsets 4 to 5"):
                read(start)
    assert [batch.offsets.tolist() for batch in log.read_batches(6)] == [[6, 7, 8]]
    assert [offset for offset, _ in log.read(6)] == [6, 7, 8]
    assert log.damaged() == [(4, 6)]
    assert log.append([make_record("new")])[0].offset == 9
    assert len(log.read(6)) == 4
    assert log.damaged() == [(4, 6)]


def test_a_flipped_bit_anywhere_in_a_batch_is_found(damaged):
    size = len(encode_batch(4, [make_record(str(n), "some text", n) for n in (4, 5)]))
    for place in range(0, size, 7):

        def flip(raw: bytes, place: int = place) -> bytes:
            return raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :]

        log = damaged(flip)
        with pytest.raises(CorruptData):
            log.read(4)
        assert [offset for offset, _ in log.read(6)] == [6, 7, 8]
        log.close()
        damaged(flip).close()  # flipped back


def test_a_flipped_bit_leaves_the_other_records_readable(damaged):
    _check_damage(damaged(lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]))


@pytest.mark.parametrize("kept", [0, 10, 25, 60])
def test_a_torn_batch_leaves_the_other_records_readable(damaged, kept):
    _check_damage(damaged(lambda raw: raw[:kept]))


def test_every_damaged_offset_is_named(tmp_path):
    log = LmdbEventLog(tmp_path)
    for n in range(6):
        log.append([make_record(str(n)), make_record(str(n) + "b")])
    log.close()
    for at in (0, 4, 6, 10):
        _tamper(tmp_path, b"batches", _number(at), lambda raw: raw[:-1])
    log = LmdbEventLog(tmp_path)
    assert log.damaged() == [(0, 2), (4, 8), (10, 12)]
    log.close()


def test_a_batch_in_the_wrong_place_is_found(damaged):
    _check_damage(damaged(lambda raw: encode_batch(5, [make_record("4"), make_record("5")])))


def test_erased_records_are_left_out_and_offsets_stay(damaged):
    log = damaged(lambda raw: encode_batch(4, [None, None]))
    assert [offset for offset, _ in log.read(0)] == [0, 1, 2, 3, 6, 7, 8]
    assert [offset for offset, _ in log.read(4, 1)] == [6]
    assert [(batch.base, batch.end, len(batch)) for batch in log.read_batches(0)] == [
        (0, 4, 4), (4, 6, 0), (6, 9, 3),
    ]  # fmt: skip
    assert [(batch.end, len(batch)) for batch in log.read_batches(4, 1)] == [(5, 0)]


def test_a_batch_of_an_earlier_codec_is_still_read(damaged):
    old = [make_record(str(n), "some text", n) for n in (4, 5)]
    payload = msgspec.msgpack.encode(old)
    head = struct.pack(">4sBBQII", b"FLRB", 1, 0, 4, 2, len(payload))
    checksum = zlib.crc32(payload, zlib.crc32(head))
    log = damaged(lambda raw: head + checksum.to_bytes(4, "big") + payload)
    assert log.read(4, 2) == [(4, old[0]), (5, old[1])]
    assert log.read_batches(4, 2)[0].tie.tolist() == [record.tie for record in old]


def test_an_older_folder_gets_a_database_of_schemas(tmp_path):
    LmdbEventLog(tmp_path).close()
    with lmdb.open(str(tmp_path), max_dbs=8, map_size=environment.MAP_BYTES) as env:
        schemas = env.open_db(b"schemas")
        with env.begin(write=True) as txn:
            txn.drop(schemas)
    log = LmdbEventLog(tmp_path)
    assert log.schemas() == {}
    log.declare({"click.v1": b"its fields"})
    assert log.schemas() == {"click.v1": b"its fields"}
    log.close()


def test_declaring_what_is_known_writes_nothing(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.declare({"click.v1": b"its fields"})
    before = log._env._env.info()["last_txnid"]
    log.declare({"click.v1": b"its fields"})
    log.declare({})
    assert log._env._env.info()["last_txnid"] == before
    log.close()


def test_a_flipped_bit_in_a_bad_event_is_found(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.keep_bad("web", "reason", b"raw", START)
    log.close()
    _tamper(tmp_path, b"bad", _number(0), lambda raw: raw[:-1] + b"?")
    log = LmdbEventLog(tmp_path)
    with pytest.raises(CorruptData):
        log.bad()
    log.close()


def test_a_full_log_refuses_reads_on_and_recovers_when_a_day_closes(tmp_path):
    log = LmdbEventLog(tmp_path, quota_bytes=600_000)
    stored = 0
    with pytest.raises(StoreFull):
        while True:
            records = [make_record(f"{stored + n:064d}", n) for n in range(100)]
            log.append(records)
            stored += 100
    assert stored > 500
    assert log.end() == stored
    assert len(log.read(0)) == stored
    assert log.append([make_record(f"{0:064d}", 0)])[0].status == "duplicate"
    answers = log.append([make_record("next week", time=START + 8 * DAY)])
    assert answers[0].offset == stored
    log.close()


def test_a_full_log_recovers_when_the_quota_is_raised(tmp_path):
    log = LmdbEventLog(tmp_path, quota_bytes=100_000)
    with pytest.raises(StoreFull, match="quota"):
        log.append([make_record(str(n), "x" * 200) for n in range(1_000)])
    assert log.end() == 0
    log.close()
    log = LmdbEventLog(tmp_path, quota_bytes=10_000_000)
    log.append([make_record(str(n), "x" * 200) for n in range(1_000)])
    assert log.end() == 1_000
    log.close()


def test_a_full_map_is_a_full_store(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "MAP_BYTES", 200_000)
    store = LmdbOnlineStore(tmp_path)
    store.commit([(b"a", b"1")], 0, Mark(1, 1))
    with pytest.raises(StoreFull, match="map"):
        store.commit([(bytes([n]), b"x" * 50_000) for n in range(1, 9)], 1, Mark(2, 2))
    with store.snapshot() as moment:
        assert moment.mark() == Mark(1, 1)
    store.commit([(b"a", b"2")], 1, Mark(2, 2))
    store.close()


def test_a_full_store_refuses_and_reads_go_on(tmp_path):
    store = LmdbOnlineStore(tmp_path, quota_bytes=50_000)
    store.commit([(b"a", b"1")], 0, Mark(1, 1))
    with pytest.raises(StoreFull):
        store.commit([(b"b", b"x" * 60_000)], 1, Mark(2, 2))
    with store.snapshot() as moment:
        assert moment.get_many([b"a", b"b"]) == [b"1", None]
    store.clear()
    store.commit([(b"b", b"2")], 0, Mark(1, 1))
    store.close()


def test_a_full_disk_is_a_full_store(tmp_path):
    """On a small file system of its own; skipped where none may be mounted."""
    script = """
import sys
from pathlib import Path
from feilun.adapters.lmdb import LmdbEventLog
from feilun.errors import StoreFull
from feilun.testing.records import make_record
folder = Path(sys.argv[1])
log = LmdbEventLog(folder / "log")
stored = 0
ballast = folder / "ballast"
ballast.write_bytes(b"x" * 500_000)
try:
    while True:
        log.append([make_record(str(stored + n), "x" * 200) for n in range(100)])
        stored += 100
except StoreFull as error:
    assert "disk is full" in str(error), error
assert len(log.read(0, 10**6)) == log.end() == stored
ballast.unlink()
log.append([make_record("after")])
assert log.end() == stored + 1
print("recovered")
"""
    mount = f'mount -t tmpfs -o size=3m tmpfs {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, sys.executable, script]
    try:
        subprocess.run([*command[:3], "mount", "-t", "tmpfs", "t", str(tmp_path)], check=True,
                       capture_output=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "recovered\n", done.stderr


def test_a_failed_disk_stops_writing(tmp_path):
    store = LmdbOnlineStore(tmp_path)
    with pytest.raises(Unavailable), store._env.write():
        raise lmdb.Error(f"mdb_txn_commit: {os.strerror(5)}")
    with pytest.raises(Unavailable, match="stopped"):
        store.commit([], 0, Mark(1, 1))
    with store.snapshot() as moment:
        assert moment.mark() == Mark(0, 0)
    store.close()


@pytest.mark.parametrize("how", ["taken away", "replaced"])
def test_nothing_is_written_where_nobody_would_find_it(tmp_path, how):
    log = LmdbEventLog(tmp_path / "log")
    log.append([make_record("before")])
    (tmp_path / "log").rename(tmp_path / "away")
    if how == "replaced":
        LmdbEventLog(tmp_path / "log").close()
    with pytest.raises(Unavailable, match="taken away"):
        log.append([make_record("meanwhile")])
    assert log.end() == 1  # reads go on
    if how == "replaced":
        (tmp_path / "log").rename(tmp_path / "other")
    (tmp_path / "away").rename(tmp_path / "log")
    log.append([make_record("after")])
    log.close()
    again = LmdbEventLog(tmp_path / "log")
    assert [record.id for _, record in again.read(0, 10)] == ["before", "after"]
    again.close()


def test_bad_events_have_a_tenth_of_the_quota(tmp_path):
    log = LmdbEventLog(tmp_path, quota_bytes=1_000_000)
    for _ in range(40):
        log.keep_bad("web", "why", b"x" * 10_000, START)
    numbers = [event.number for event in log.bad()]
    assert numbers[-1] == 39
    assert 3 < len(numbers) < 12
    assert numbers == list(range(numbers[0], 40))
    assert log.append([make_record("1")])[0].status == "accepted"
    log.close()


def test_ids_of_closed_days_are_forgotten_a_little_at_a_time(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.append([make_record(str(n)) for n in range(1_000)])
    counts = []
    for n in range(5):
        log.append([make_record(f"later {n}", time=START + 8 * DAY)])
        with log._env.read() as txn:
            counts.append(txn.stat(log._env.databases["open"])["entries"])
    assert counts[0] > 500
    assert counts[-1] == 5
    log.close()


def test_segments_know_their_subjects(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.append([make_record(str(n), subject=f"user_id={n // 40_000}") for n in range(70_000)])
    assert log.segments("user_id=0") == [0]
    assert log.segments("user_id=1") == [0, 1]
    assert log.segments("user_id=2") == []
    log.close()


def test_a_subject_is_put_once_in_a_segment(tmp_path, monkeypatch):
    monkeypatch.setattr("feilun.adapters.lmdb.event_log.SEGMENT", 4)
    log = LmdbEventLog(tmp_path)
    names = iter(range(100))
    for subjects in ("ab", "ba", "abcd", "c", "dd", "a"):
        log.append([make_record(str(next(names)), subject=subject) for subject in subjects])
    assert {subject: log.segments(subject) for subject in "abcde"} == {
        "a": [0, 1, 2],
        "b": [0, 1],
        "c": [1, 2],
        "d": [1, 2],
        "e": [],
    }
    log.close()


def test_a_subject_of_a_failed_append_is_put_by_the_next(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.append([make_record("1", subject="a")])
    log._env._quota = 0
    with pytest.raises(StoreFull):
        log.append([make_record(f"x{n}", "long" * 99, subject="b") for n in range(500)])
    log._env._quota = 1 << 30
    assert log.segments("b") == []
    log.append([make_record("2", subject="b")])
    assert log.segments("b") == [0]
    log.close()


def _append(folder: str, writer: int, start) -> None:
    log = LmdbEventLog(Path(folder))
    start.wait()
    for n in range(40):
        log.append([make_record(f"{writer}-{n}"), make_record(f"both-{n}")])
    log.close()


def test_two_processes_append_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2, timeout=30)
    processes = [
        context.Process(target=_append, args=(str(tmp_path), writer, start)) for writer in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    log = LmdbEventLog(tmp_path)
    records = log.read(0)
    assert [offset for offset, _ in records] == list(range(120))
    assert len({record.id for _, record in records}) == 120
    log.close()


def test_use_after_a_fork_is_refused(tmp_path):
    log = LmdbEventLog(tmp_path)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            log.end()
        except ConfigError as error:
            os.write(sender, str(error).encode())
        os._exit(0)
    os.close(sender)
    os.waitpid(child, 0)
    with os.fdopen(receiver) as answers:
        assert "fork" in answers.read()
    assert log.end() == 0
    log.close()


def test_a_newer_format_is_refused(tmp_path):
    LmdbEventLog(tmp_path).close()
    _tamper(tmp_path, b"meta", b"format", lambda raw: b"feilun-log/2")
    with pytest.raises(ConfigError, match="format 2"):
        LmdbEventLog(tmp_path)
    _tamper(tmp_path, b"meta", b"format", lambda raw: b"feilun-log/1")
    LmdbEventLog(tmp_path).close()


def test_another_kind_is_refused(tmp_path):
    LmdbEventLog(tmp_path).close()
    with pytest.raises(ConfigError, match="does not hold"):
        LmdbOnlineStore(tmp_path)


def test_a_database_of_someone_else_is_refused(tmp_path):
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    with pytest.raises(ConfigError):
        LmdbEventLog(tmp_path)


def test_what_is_not_a_folder_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError):
        LmdbEventLog(path)


def test_a_second_object_in_one_process_is_refused(tmp_path):
    log = LmdbEventLog(tmp_path)
    with pytest.raises(ConfigError):
        LmdbEventLog(tmp_path)
    log.close()


@pytest.mark.parametrize(
    ("behind", "first"), [(0, 0), (1, 65_536), (65_536, 65_536), (65_537, 131_072)]
)
def test_a_log_may_begin_behind_offsets_that_others_remember(tmp_path, behind, first):
    log = LmdbEventLog(tmp_path)
    log.begin_at(behind)
    assert log.end() == first
    log.append([make_record(str(n), n) for n in range(3)])
    assert [offset for offset, _ in log.read(0)] == [first, first + 1, first + 2]
    assert [offset for offset, _ in log.read(first + 1)] == [first + 1, first + 2]
    assert log.damaged() == []
    with pytest.raises(Conflict, match="has begun"):
        log.begin_at(behind)
    log.close()


@pytest.mark.parametrize("digest", [b"", b"d" * 15, b"d" * 17, b"d" * 32])
def test_a_digest_of_another_length_is_refused(tmp_path, digest):
    log = LmdbEventLog(tmp_path)
    wrong = msgspec.structs.replace(make_record("2"), digest=digest)
    with pytest.raises(InputError, match="16 bytes"):
        log.append([make_record("1"), wrong])
    assert log.end() == 0
    assert log.append([make_record("1")])[0].status == "accepted"
    log.close()
