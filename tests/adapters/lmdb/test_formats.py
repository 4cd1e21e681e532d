"""What the LMDB folders hold, byte by byte as docs/formats.md draws it."""

from __future__ import annotations

import lmdb

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.adapters.lmdb.bad_events import decode_bad, encode_bad
from feilun.ports.event_log import BadEvent
from feilun.ports.online_store import Mark
from feilun.records.codec import encode_batch
from feilun.records.erasure import Erasures
from feilun.records.identity import name_key
from feilun.testing.records import START, make_record


def _contents(folder):
    with lmdb.open(str(folder), max_dbs=8, map_size=1 << 40) as env, env.begin() as txn:
        names = [bytes(name) for name, _ in txn.cursor()]
        handles = {name: env.open_db(name, txn, create=False) for name in names}
        return {name.decode(): dict(txn.cursor(db)) for name, db in handles.items()}


def test_a_log_of_format_1(tmp_path):
    log = LmdbEventLog(tmp_path)
    record = make_record("A-1", 7, subject="user_id=7")
    late = make_record("A-2", time=0, received=START)
    log.append([record, late])
    log.keep_bad("web", "why", b"\xff", 5)
    log.declare({"click.v1.00000000": b"its fields"})
    log.close()
    assert _contents(tmp_path) == {
        "meta": {
            b"count/click.v1.00000000": bytes.fromhex("0000000000000002 0000000000000001"),
            b"format": b"feilun-log/1",
            # end 2, next bad number 1, first open day 1 (day 0 closed by the late record)
            b"state": bytes.fromhex("0000000000000002 0000000000000001 00000001"),
        },
        "batches": {
            bytes(8): encode_batch(0, [record, make_record("A-2", time=0, received=START, flags=1)])
        },
        "open": {name_key(20_000, "web", "A-1"): bytes(8) + record.digest},
        "kept": {name_key(0, "web", "A-2"): bytes(7) + b"\x01" + late.digest},
        "subjects": {bytes.fromhex("21126a9f4677662e 00000000"): b""},
        "schemas": {b"click.v1.00000000": b"its fields"},
        "erased": {},
        "bad": {bytes(8): BAD_1},
    }


def test_who_is_erased_from_a_log_of_format_1(tmp_path):
    log = LmdbEventLog(tmp_path)
    log.append([make_record("A-1", 7, subject="user_id=7")])
    log.erase(Erasures(bytes(range(32))).adding(["user_id=7"], 2**60))
    log.close()
    found = _contents(tmp_path)
    who, name = "a0cb66b70114ebe3ab3116606da1373b", "782e380d42f4162769aa67aab190978a"
    assert found["meta"][b"erasures"] == bytes(range(32))
    assert found["erased"] == {
        bytes.fromhex(who): bytes.fromhex("1000000000000000"),
        bytes.fromhex(who + name): b"",
    }
    assert found["batches"] == {bytes(8): encode_batch(0, [None])}
    assert (found["open"], found["subjects"]) == ({}, {})


BAD_1 = bytes.fromhex(
    "01"  # format
    "ade455f1"  # CRC-32 of what follows
    "95 00 05 a3776562 a3776879 c401ff"  # number, received, source, reason, raw
)


def test_a_bad_event_of_format_1():
    event = BadEvent(0, 5, "web", "why", b"\xff")
    assert encode_bad(event) == BAD_1
    assert decode_bad(BAD_1) == event


def test_a_store_of_format_2(tmp_path):
    store = LmdbOnlineStore(tmp_path)
    store.commit([(b"key", b"value")], 0, Mark(3, -1))
    store.close()
    assert _contents(tmp_path) == {
        "meta": {
            b"format": b"feilun-tiles/2",
            b"mark": bytes.fromhex("0000000000000003 ffffffffffffffff"),
        },
        "values": {b"key": b"value"},
    }


def test_a_store_of_format_1_is_emptied_for_it_can_be_built_again(tmp_path):
    store = LmdbOnlineStore(tmp_path)
    store.commit([(b"key", b"value")], 0, Mark(3, 7))
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"feilun-tiles/1", db=env.open_db(b"meta", txn))
    store = LmdbOnlineStore(tmp_path)
    with store.snapshot() as snapshot:
        assert (snapshot.mark(), snapshot.get_many([b"key"])) == (Mark(0, 0), [None])
    store.close()
    assert _contents(tmp_path)["meta"][b"format"] == b"feilun-tiles/2"
