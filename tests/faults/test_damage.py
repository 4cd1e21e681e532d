"""Bytes on the disk that are not what was written: found, told, and never served as a value."""

from __future__ import annotations

import random
import sys
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

import feilun as fl
from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore, environment
from feilun.aggregation.family import ID_BYTES
from feilun.clock import DAY, MINUTE, SystemClock
from feilun.definitions.compiler import compile_project
from feilun.errors import CorruptData
from feilun.features import engine as engine_module
from feilun.features import mending
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.records.schema import schemas_of
from feilun.testing.records import START, make_record

user = fl.Entity("user_id", int)
USERS = 3


class Click(fl.Event):
    user_id: fl.Field[int]
    amount: fl.Field[float]
    page: fl.Field[str]


class Profile(fl.FeatureView, entity=user):
    clicks = fl.count(Click)
    clicks_1d = fl.count(Click, window="1d")
    spent = fl.sum(Click.amount, window="7d")
    pages = fl.last(Click.page, n=3)


PROJECT = compile_project(sys.modules[__name__])
FEATURES = PROJECT.views["profile"].features


def records(first: int, last: int):
    schema = PROJECT.events["click"].schema_id
    return [
        make_record(
            str(n), n % USERS, n / 8, f"页 {n}", time=START + n * MINUTE,
            received=START + DAY, schema=schema,
        )
        for n in range(first, last)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """A log of batches of 20, the first forty records of which are folded."""
    with closing(LmdbEventLog(tmp_path / "log")) as log:
        log.declare(schemas_of(PROJECT.events.values()))
        for first in (0, 20):
            log.append(records(first, first + 20))
        with closing(LmdbOnlineStore(tmp_path / "tiles")) as store:
            Engine(PROJECT, log, store).run_once()
        for first in (40, 60):
            log.append(records(first, first + 20))
    return tmp_path


def change(folder: Path, database: bytes, key: bytes, how) -> None:
    with (
        lmdb.open(str(folder), max_dbs=16, map_size=environment.MAP_BYTES) as env,
        env.begin(write=True) as txn,
    ):
        found = env.open_db(database, txn, create=False)
        txn.put(key, how(txn.get(key, db=found)), db=found)


def keys_of(folder: Path) -> list[bytes]:
    with lmdb.open(str(folder), max_dbs=16, map_size=environment.MAP_BYTES) as env:
        values = env.open_db(b"values")
        with env.begin() as txn, txn.cursor(values) as cursor:
            return [key for key in cursor.iternext(values=False) if len(key) >= ID_BYTES]


def served(store: LmdbOnlineStore):
    with OnlineReader(PROJECT, store).snapshot() as snapshot:
        as_of = snapshot.mark.time + 1
        rows = [snapshot.read_row(FEATURES, {"user_id": n}, as_of).values for n in range(USERS)]
        columns = snapshot.read(FEATURES, {}, "user_id", range(USERS), as_of)
        for at, row in enumerate(rows):
            assert [columns[a].values[at] for a in row] == list(row.values())
        assert snapshot.damaged == []
        return snapshot.mark.offset, rows


def spared(store: LmdbOnlineStore, damaged: int, wanted):
    """Check that every user is served as wanted, but for the one whose blob is damaged."""
    everything = [feature.address for feature in FEATURES]
    reader = OnlineReader(PROJECT, store)
    with reader.snapshot() as snapshot:
        as_of = snapshot.mark.time + 1
        for n in [*range(damaged), *range(damaged + 1, USERS), damaged]:
            assert snapshot.damaged == []
            row = snapshot.read_row(FEATURES, {"user_id": n}, as_of)
            if n != damaged:
                assert row.values == wanted[n]
        assert row.missing == everything == snapshot.damaged
    with reader.snapshot() as snapshot:
        columns = snapshot.read(FEATURES, {}, "user_id", range(USERS), as_of)
        assert snapshot.damaged == everything
        for address, column in columns.items():
            assert column.present.tolist() == [n != damaged for n in range(USERS)]
            whole = [n for n in range(USERS) if n != damaged]
            assert [column.values[n] for n in whole] == [wanted[n][address] for n in whole]
    with reader.snapshot() as snapshot:
        one = snapshot.read(FEATURES, {"user_id": damaged}, None, (), as_of)
        assert not any(column.present.any() for column in one.values())
        assert snapshot.damaged == everything


def test_a_damaged_batch_stops_the_engine_before_it_and_the_features_stay(folder):
    change(folder / "log", b"batches", (40).to_bytes(8, "big"), lambda raw: raw[:60])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "tiles")) as store,
    ):
        engine = Engine(PROJECT, log, store)
        before = served(store)
        for _ in range(2):
            with pytest.raises(CorruptData, match="offsets 40 to 59"):
                engine.run_once()
            assert served(store) == before
            assert engine.lag() == 40  # which /status and the metrics tell


@pytest.mark.parametrize("torn", [False, True], ids=["flipped", "torn"])
def test_a_damaged_blob_is_never_a_value(folder, torn):
    chance = random.Random(5)
    key = keys_of(folder / "tiles")[1]
    with closing(LmdbOnlineStore(folder / "tiles")) as store:
        wanted = served(store)
    user = int.from_bytes(key[8:], "big") - (1 << 63)
    for _ in range(40):
        kept: list[bytes] = []

        def damage(raw: bytes, kept: list[bytes] = kept) -> bytes:
            kept.append(raw)
            place = chance.randrange(len(raw))
            if torn:
                return raw[:place] + bytes(len(raw) - place - 1) + b"\1"
            return raw[:place] + bytes([raw[place] ^ 1 << chance.randrange(8)]) + raw[place + 1 :]

        change(folder / "tiles", b"values", key, damage)
        with closing(LmdbOnlineStore(folder / "tiles")) as store:
            spared(store, user, wanted[1])
        change(folder / "tiles", b"values", key, lambda _, kept=kept: kept[0])
    with closing(LmdbOnlineStore(folder / "tiles")) as store:
        assert served(store) == wanted


def whole(folder):
    """Return what a store that was never damaged serves of all that the log has."""
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "other")) as store,
    ):
        while Engine(PROJECT, log, store).run_once():
            pass
        return served(store)


@pytest.mark.parametrize("limit", [7, 20, 1_000])
def test_the_engine_mends_damaged_blobs_from_the_log_and_folds_the_others_on(
    folder, limit, monkeypatch
):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 9)
    tiles, wanted = folder / "tiles", whole(folder)
    for key in keys_of(tiles)[: USERS - 1]:
        change(tiles, b"values", key, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        reader = OnlineReader(PROJECT, store)
        engine = Engine(PROJECT, log, store)
        while engine.run_once(limit):
            with reader.snapshot() as snapshot:
                offset, as_of = snapshot.mark.offset, snapshot.mark.time + 1
                row = snapshot.read_row(FEATURES, {"user_id": USERS - 1}, as_of)
            # Whose blob is whole is served as ever.
            assert row.values["profile:clicks"] == len(range(USERS - 1, offset, USERS))
        assert served(store) == wanted
        log.append(records(80, 90))
        while engine.run_once(limit):
            pass
        assert sum(row["profile:clicks"] for row in served(store)[1]) == 90


def test_events_that_come_while_a_blob_is_mended_count_once(folder, monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 9)
    tiles = folder / "tiles"
    change(tiles, b"values", keys_of(tiles)[0], lambda raw: raw[:-8])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine = Engine(PROJECT, log, store)
        for first in range(80, 120, 4):
            log.append(records(first, first + 4))
            engine.run_once(13)
        while engine.run_once(13):
            pass
        found = served(store)
    assert found == whole(folder)


def test_a_killed_engine_finds_damage_again(folder, monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 9)
    tiles = folder / "tiles"
    change(tiles, b"values", keys_of(tiles)[0], lambda raw: raw[:-8])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        for _ in range(3):
            Engine(PROJECT, log, store).run_once(13)  # and is gone before it has mended it
        log.append(records(80, 83))
        engine = Engine(PROJECT, log, store)
        while engine.run_once(100):
            pass
        found = served(store)
    assert found == whole(folder)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_damage_is_found_and_mended_though_no_event_of_its_key_comes(folder, limit):
    tiles, wanted = folder / "tiles", whole(folder)
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        assert Engine(PROJECT, log, store).run_once() == 40
        assert served(store) == wanted
    keys = keys_of(tiles)
    for key in keys[1:]:
        change(tiles, b"values", key, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine, reader = Engine(PROJECT, log, store), OnlineReader(PROJECT, store)
        assert engine.run_once() == 0  # nothing is to do, and nothing is known to be damaged
        rounds = -(-(len(keys) + 1) // limit)  # every key once, and the list of tiles
        assert sum(engine.check(limit) for _ in range(rounds)) == len(keys) - 1
        while engine.run_once():
            pass
        assert served(store) == wanted
        assert sum(engine.check(limit) for _ in range(2 * rounds + 2)) == 0
        with reader.snapshot() as snapshot:
            assert snapshot.mended() == len(keys) - 1
    change(tiles, b"values", keys[0], lambda raw: raw[:-8])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine, reader = Engine(PROJECT, log, store), OnlineReader(PROJECT, store)
        assert engine.check() == 1
        while engine.run_once():
            pass
        with reader.snapshot() as snapshot:
            assert snapshot.mended() == len(keys)
        engine.rebuild()
        with reader.snapshot() as snapshot:
            assert snapshot.mended() == 0


def test_tiles_that_nobody_reads_any_more_are_not_checked(folder):
    tiles = folder / "tiles"
    for key in keys_of(tiles):
        change(tiles, b"values", key, lambda raw: raw[:-8])
    from dataclasses import replace

    other = replace(FEATURES[1], fold=replace(FEATURES[1].fold, hop=2 * MINUTE))
    views = {"profile": replace(PROJECT.views["profile"], features=(other,))}
    project = replace(PROJECT, views=views)
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine = Engine(project, log, store)
        while engine.run_once():
            pass
        assert engine.check() == 0
        with OnlineReader(project, store).snapshot() as snapshot:
            row = snapshot.read_row([other], {"user_id": 1}, snapshot.mark.time + 1)
            assert row.values == {"profile:clicks_1d": len(range(1, 80, USERS))}
            assert snapshot.mended() == 0


def test_damage_that_was_dropped_with_its_family_takes_no_place(monkeypatch):
    from feilun.aggregation import make_families

    (kept,), (dropped,) = (make_families([FEATURES[at].fold]) for at in (0, 1))
    monkeypatch.setattr(mending, "MOST", 2)
    work = mending.Mending()
    pairs = [(family.id + b"k" * 8, b"") for family in (dropped, kept)]
    work.note(dropped, b"a" * 8)
    work.note(dropped, b"b" * 8)
    assert work.check(pairs, [kept]) == 1
    assert work.begin([kept])
    assert work.families == [kept]


def test_more_damage_than_is_mended_at_a_time_is_mended_in_turns(folder, monkeypatch):
    monkeypatch.setattr(mending, "MOST", 1)
    tiles, wanted = folder / "tiles", whole(folder)
    for key in keys_of(tiles):
        change(tiles, b"values", key, lambda raw: raw[:-8])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine = Engine(PROJECT, log, store)
        for _ in range(2 * USERS):
            engine.check()
            while engine.run_once():
                pass
        assert served(store) == wanted


def test_a_blob_that_the_log_cannot_mend_is_left_alone_and_the_others_go_on(folder):
    change(folder / "log", b"batches", (20).to_bytes(8, "big"), lambda raw: raw[:-1])
    tiles = folder / "tiles"
    key = keys_of(tiles)[0]
    change(tiles, b"values", key, lambda raw: raw[:-8])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(tiles)) as store,
    ):
        engine = Engine(PROJECT, log, store)
        while engine.run_once(13):
            pass
        assert engine.lag() == 0
        with OnlineReader(PROJECT, store).snapshot() as snapshot:
            as_of = snapshot.mark.time + 1
            row = snapshot.read_row(FEATURES, {"user_id": 1}, as_of)
            assert row.values["profile:clicks"] == len(range(1, 80, USERS))
            assert snapshot.damaged == []
            snapshot.read_row(FEATURES, {"user_id": 0}, as_of)
            assert snapshot.damaged == [feature.address for feature in FEATURES]


def test_a_rebuild_mends_tiles(folder):
    key = keys_of(folder / "tiles")[0]
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "tiles")) as store,
    ):
        Engine(PROJECT, log, store).run_once()
        wanted = served(store)
    change(folder / "tiles", b"values", key, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "tiles")) as store,
    ):
        assert Engine(PROJECT, log, store).rebuild() == 80
        assert served(store) == wanted


def test_a_rebuild_over_a_damaged_log_names_the_damage_and_changes_nothing(folder):
    for base in (20, 60):
        change(folder / "log", b"batches", base.to_bytes(8, "big"), lambda raw: raw[:-1])
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "tiles")) as store,
    ):
        before = served(store)
        with pytest.raises(CorruptData, match="offsets 20 to 39, 60 to 79"):
            Engine(PROJECT, log, store).rebuild()
        assert served(store) == before


def test_new_features_wait_for_a_damaged_log_and_the_others_go_on(folder):
    from dataclasses import replace

    change(folder / "log", b"batches", (20).to_bytes(8, "big"), lambda raw: raw[:-1])
    new = replace(FEATURES[1], name="new", fold=replace(FEATURES[1].fold, hop=2 * MINUTE))
    views = {"profile": replace(PROJECT.views["profile"], features=(*FEATURES, new))}
    project = replace(PROJECT, views=views)
    with (
        closing(LmdbEventLog(folder / "log")) as log,
        closing(LmdbOnlineStore(folder / "tiles")) as store,
    ):
        engine = Engine(project, log, store)
        while engine.run_once(10):
            pass
        log.append(records(80, 90))
        while engine.run_once(10):
            pass
        offset, rows = served(store)
        assert offset == 90
        assert sum(row["profile:clicks"] for row in rows) == 90
        with OnlineReader(project, store).snapshot() as snapshot:
            assert snapshot.unbuilt([*FEATURES, new]) == ["profile:new"]


@pytest.mark.parametrize("hurt", ["flipped", "torn"])
def test_a_damaged_file_of_the_lake_is_no_history(folder, hurt):
    iceberg = pytest.importorskip("feilun.adapters.iceberg")
    from feilun.features.archive import Archiver

    with closing(LmdbEventLog(folder / "log")) as log:
        with closing(iceberg.IcebergLake(folder / "lake")) as lake:
            Archiver(log, lake, SystemClock()).run_all()
        (path,) = (folder / "lake").rglob("*.parquet")
        raw = path.read_bytes()
        chance = random.Random(7)
        for _ in range(25):
            place = chance.randrange(len(raw))
            damaged = (
                raw[:place] + bytes([raw[place] ^ 1 << chance.randrange(8)]) + raw[place + 1 :]
            )
            path.write_bytes(damaged if hurt == "flipped" else raw[:place])
            with closing(iceberg.IcebergLake(folder / "lake")) as lake:
                try:
                    frames = list(lake.frames(PROJECT.events["click"]))
                except CorruptData as error:
                    assert "written again from the log" in error.hint
                else:  # a bit that no reader looks at
                    assert hurt == "flipped"
                    assert sorted(n for f in frames for n in f.known.tolist()) == list(range(80))
                    assert sum(f.columns["amount"].values.sum() for f in frames) == 80 * 79 / 16
        path.write_bytes(raw)
        with closing(iceberg.IcebergLake(folder / "lake")) as lake:
            assert sum(len(frame) for frame in lake.frames(PROJECT.events["click"])) == 80
