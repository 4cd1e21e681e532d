"""The log or the tiles taken away: nothing is acknowledged that nobody would find again."""

import shutil

import pytest

pytestmark = pytest.mark.xdist_group("lost_log")

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
    for command in (["up"], ["serve", "gateway"], ["serve", "engine"], ["events", "bad"]):
        assert "is lost" in filled.run(*command, code=2).stderr
    assert log.exists() == (how == "emptied")
    shutil.rmtree(filled.root / ".feilun/tiles")  # as the hint says
    filled.run("events", "bad")
    assert log.exists()


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
