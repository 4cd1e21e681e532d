"""The log or the tiles taken away: nothing is acknowledged that nobody would find again."""

import shutil
from contextlib import closing

import pytest

from feilun.app import compose, lost_log
from feilun.app.config import load, prepare_data

pytestmark = pytest.mark.xdist_group("lost_log")

CLICKS = "user_profile:clicks"
CLICK = {"events": [{"event": "click", "fields": {"user_id": 7, "item_id": 1}}]}


@pytest.fixture
def filled(shop):
    """A shop whose log and tiles hold something."""
    (shop.root / "clicks.csv").write_text("user_id,item_id,when\n7,1,2026-03-01T00:00:00Z\n")
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    shop.run("rebuild")
    return shop


def take(shop, away, name):
    shutil.move(shop.root / ".feilun" / name, away / name)


def put_back(shop, away, name):
    shutil.move(away / name, shop.root / ".feilun" / name)


@pytest.mark.parametrize("how", ["lost", "emptied"])
def test_nothing_begins_an_empty_log_in_the_place_of_one_that_is_lost(filled, tmp_path, how):
    log, away = filled.root / ".feilun/log", tmp_path / "away"
    away.mkdir()
    take(filled, away, "log")
    if how == "emptied":
        log.mkdir()
    for command in (["up"], ["serve", "gateway"], ["serve", "engine"]):
        assert "is lost" in filled.run(*command, code=2).stderr
    refused(filled)
    assert log.exists() == (how == "emptied")
    assert "Move it away" in filled.run("recover", code=2).stderr
    take(filled, away, "tiles")  # as the hint says; platform.db knows the log still
    refused(filled)
    assert log.exists() == (how == "emptied")
    assert "begun at offset 0" in filled.run("recover").stdout
    filled.run("events", "bad")
    assert filled.json("audit")["audit"][-1]["subject"] == "log"
    assert "is there" in filled.run("recover", code=2).stderr
    shutil.rmtree(log)
    for name in ("log", "tiles"):
        put_back(filled, away, name)
    assert filled.json("features", CLICKS, "user_id=7")["features"] == {CLICKS: 1}


def refused(shop):
    said = shop.run("events", "bad", code=2).stderr
    assert "is lost" in said
    assert "feilun recover" in said


def test_a_log_that_is_begun_anew_gives_no_offset_a_second_time(filled, tmp_path, start, until):
    """Whoever remembers an offset of the lost log must not find something else there."""
    from feilun.adapters.sqlite import SqliteTurns

    database = filled.root / ".feilun/platform.db"
    with closing(SqliteTurns(database)) as turns:
        turns.note_examined("ranker", 70_000)
    for name in ("log", "tiles"):
        shutil.rmtree(filled.root / ".feilun" / name)
    refused(filled)
    assert "begun at offset 131072" in filled.run("recover").stdout
    filled.run("import", filled.root / "clicks.csv", "--event", "click", "--time", "when")
    with start(filled):
        reply = filled.call("/api/events", CLICK)[1]
        assert reply["events"][0]["offset"] == 131_073
        until(lambda: filled.call("/api/user_profile?user_id=7")[1]["features"]["clicks"] == 2)
        assert filled.json("status")["platform"]["problems"] == []
    filled.run("rebuild")
    assert filled.json("features", CLICKS, "user_id=7")["features"] == {CLICKS: 2}


def test_a_log_that_another_process_begins_meanwhile_is_not_lost(shop, monkeypatch):
    config = load(shop.root)
    prepare_data(config)
    known_log = compose.known_log

    def meanwhile(config):
        if not config.log_path.exists():
            with monkeypatch.context() as patched:
                patched.setattr(compose, "known_log", known_log)
                compose.event_log(config).close()
        return known_log(config)

    monkeypatch.setattr(compose, "known_log", meanwhile)
    assert not lost_log.log_is_lost(config)
    assert config.log_path.exists()


@pytest.mark.parametrize("left", ["tiles", "lake"])
def test_where_platform_db_is_lost_too_what_was_made_of_the_log_tells(filled, tmp_path, left):
    data = filled.root / ".feilun"
    if left == "lake":
        pytest.importorskip("pyiceberg")
        filled.run("archive")
        shutil.rmtree(data / "tiles")
    for path in (data / "log", *data.glob("platform.db*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(filled)
    if left == "tiles":
        assert "Move it away" in filled.run("recover", code=2).stderr
        assert not (data / "platform.db").exists()
        take(filled, tmp_path, "tiles")
        filled.run("events", "bad")  # nothing is left that could tell: it is a new platform
    else:
        said = filled.run("recover").stdout
        assert "no team" in said
        assert "begun at offset 65536" in said
        assert [each["subject"] for each in filled.json("audit")["audit"]] == ["platform.db", "log"]


def test_tables_are_read_from_their_beginning_where_the_log_had_their_rows(shop):
    pytest.importorskip("sqlalchemy")
    with (shop.root / "shop.py").open("a") as file:
        file.write(
            """
class Stock(fl.Table, key=item, source="files.stock", time="at"):
    item_id: fl.Field[int]
    quantity: fl.Field[int]


class ItemProfile(fl.FeatureView, entity=item):
    stock = fl.last(Stock.quantity)
"""
        )
    with (shop.root / "feilun.toml").open("a") as file:
        file.write('[sources.files]\ntype = "files"\npath = "{table}.csv"\n')
    (shop.root / "stock.csv").write_text("item_id,quantity,at\n1,5,2026-03-01\n")
    for _ in range(2):
        assert shop.json("sync")["tables"]["stock"]["new"] == 1
        assert shop.json("sync")["tables"]["stock"]["new"] == 0
        shutil.rmtree(shop.root / ".feilun/log")
        shop.run("recover")


def test_a_recovery_that_is_killed_leaves_the_log_lost(filled, monkeypatch):
    from feilun.adapters.lmdb import LmdbEventLog

    for name in ("log", "tiles"):
        shutil.rmtree(filled.root / ".feilun" / name)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LmdbEventLog, "begin_at", killed)
        filled.run("recover", code=130)
    refused(filled)
    filled.run("recover")
    filled.run("events", "bad")


def test_a_log_that_is_taken_away_takes_nothing_until_it_is_put_back(
    tmp_path, shop_maker, start, until
):
    shop, away = shop_maker(tmp_path, "workers = 1"), tmp_path / "away"
    away.mkdir()
    with start(shop):
        accepted = [shop.call("/api/events", CLICK)]
        take(shop, away, "log")
        for path, body in (("/api/events", CLICK), ("/api/recommend?user_id=7", None)):
            status, reply = shop.call(path, body)
            assert (status, reply["error"]["code"]) == (503, "unavailable")
            assert "taken away" in reply["error"]["message"]
        assert shop.status("/api/user_profile?user_id=7") == 200  # reads go on
        assert shop.call("/ready")[1]["status"] == "not ready"
        put_back(shop, away, "log")
        accepted.append(shop.call("/api/events", CLICK))
        assert [status for status, _ in accepted] == [200, 200]
        ids = [reply["events"][0]["id"] for _, reply in accepted]
        until(lambda: shop.call("/api/user_profile?user_id=7")[1]["features"]["clicks"] == 2)
    assert len(set(ids)) == 2


def test_tiles_that_are_taken_away_are_read_on_and_flagged_until_they_are_back(
    tmp_path, shop_maker, start, until
):
    shop, away = shop_maker(tmp_path, "workers = 1"), tmp_path / "away"
    away.mkdir()

    def clicks():
        reply = shop.call("/api/user_profile?user_id=7")[1]
        return reply["features"]["clicks"], reply["degraded"]

    with start(shop):
        shop.call("/api/events", CLICK)
        until(lambda: clicks() == (1, []))
        take(shop, away, "tiles")
        assert shop.call("/api/events", CLICK)[0] == 200
        until(lambda: clicks() == (1, ["stale"]))
        until(lambda: "taken away" in (shop.root / ".feilun/run/engine.log").read_text())
        put_back(shop, away, "tiles")
        until(lambda: clicks() == (2, []))
