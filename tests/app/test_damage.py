"""``feilun up`` over damaged files: it starts, answers, and says what is not as it should be."""

import re
from contextlib import contextmanager

import lmdb
import pytest

from feilun.adapters.lmdb import environment

pytestmark = pytest.mark.xdist_group("up")


@contextmanager
def values(folder, database):
    """Open a database of a stopped platform to be changed."""
    with (
        lmdb.open(str(folder), max_dbs=16, map_size=environment.MAP_BYTES) as env,
        env.begin(write=True) as txn,
    ):
        found = env.open_db(database, txn, create=False)
        yield txn, found


def flip(folder, database, chosen):
    """Flip a bit in the middle of the values whose keys are chosen; again, to flip it back."""
    with values(folder, database) as (txn, found):
        keys = [key for key, _ in txn.cursor(found) if chosen(key)]
        for key in keys:
            raw = txn.get(key, db=found)
            at = len(raw) // 2
            txn.put(key, raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :], db=found)
    return len(keys)


def imported(shop, user, count):
    path = shop.root / "clicks.csv"
    rows = [f"{user},{item},2026-01-02 10:00:{item:02}" for item in range(count)]
    path.write_text("\n".join(["user_id,item_id,time", *rows]) + "\n")
    assert shop.json("import", path, "--event", "click", "--time", "time")["accepted"] == count


def profile(shop, user):
    status, reply = shop.call(f"/api/user_profile?user_id={user}")
    return status, reply["features"]["clicks"], reply["degraded"]


def sent(shop, user):
    body = {"event": "click", "fields": {"user_id": user, "item_id": 1}}
    (answer,) = shop.call("/api/events", [body])[1]["events"]
    return answer["status"]


def test_a_damaged_log_stops_the_features_and_nothing_else(shop, start, until):
    imported(shop, 1, 6)
    shop.run("rebuild")
    imported(shop, 2, 3)
    log = shop.root / ".feilun/log"
    assert flip(log, b"batches", lambda key: int.from_bytes(key, "big") == 6) == 1
    refused = shop.run("rebuild", code=1).stderr
    assert "offsets 6 to 8 are damaged" in refused
    assert "backup" in refused
    with start(shop):
        assert profile(shop, 1) == (200, 6, ["stale"])
        assert sent(shop, 1) == "accepted"
        assert shop.call("/api/recommend?user_id=1")[1]["result"]
        (problem,) = shop.json("status")["platform"]["problems"]
        assert "stand at offset 6 of " in problem
        assert shop.call("/ready") == (200, {"status": "degraded", "problems": [problem]})
        assert 'feilun_features_stale{worker="' in shop.text("/metrics")
    engine = (shop.root / ".feilun/run/engine.log").read_text()
    assert engine.count("offsets 6 to 8 are damaged") == 1
    flip(log, b"batches", lambda key: int.from_bytes(key, "big") == 6)  # the backup
    with start(shop):
        until(lambda: profile(shop, 1) == (200, 7, []))
        assert profile(shop, 2) == (200, 3, [])


def test_damaged_tiles_are_made_anew_and_hold_nobody_else_up(shop, start, until):
    for user in range(1, 6):
        imported(shop, user, user)
    shop.run("rebuild")
    # Whole keys of one int and two: what is of users, and of users and items.
    assert flip(shop.root / ".feilun/tiles", b"values", lambda key: key[-1:] in b"\1\2") > 2
    refused = shop.run("features", "user_profile", "user_id=1", code=1).stderr
    assert "user_profile:clicks" in refused
    assert "feilun rebuild" in refused
    with start(shop):
        for user in (2, 3):  # no event comes of user 1, whose tiles are damaged too
            assert sent(shop, user) == "accepted"
        until(lambda: shop.json("status")["platform"]["lag"] == 0)
        wanted = [(200, clicks, []) for clicks in (1, 3, 4, 4, 5)]
        until(lambda: [profile(shop, user) for user in range(1, 6)] == wanted)
        mended = re.search(r"^feilun_tiles_mended_total{.*} (\d+)$", shop.text("/metrics"), re.M)
        assert int(mended[1]) > 2
        assert shop.json("status")["platform"]["problems"] == []
    assert (
        "damaged blobs of tiles are made anew" in (shop.root / ".feilun/run/engine.log").read_text()
    )
