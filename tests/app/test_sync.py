"""``feilun sync``, and tables under ``feilun up``."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from feilun.app import compose
from feilun.app.config import load, prepare_data
from feilun.app.locks import ProcessLock
from feilun.errors import ConfigError

pytest.importorskip("sqlalchemy")

TABLES = """

class Stock(fl.Table, key=item, source="warehouse.stock", time="updated_at", every="1s"):
    item_id: fl.Field[int]
    quantity: fl.Field[int]


class Price(fl.Table, key=item, source="files.price", time="at", columns={"price": "价格"}):
    item_id: fl.Field[int]
    price: fl.Field[float]


class ItemProfile(fl.FeatureView, entity=item):
    stock = fl.last(Stock.quantity, ttl="1d")
    price = fl.last(Price.price)
"""
SOURCES = """
[sources.warehouse]
type = "sqlalchemy"
url = "sqlite:///${TEST_WAREHOUSE}"

[sources.files]
type = "files"
path = "exports/{table}*.csv"
"""


def iso(ago=0):
    return (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()


class Warehouse:
    def __init__(self, path):
        self.path = path
        self.run("CREATE TABLE stock (item_id INTEGER, quantity, updated_at TEXT)")

    def run(self, statement, *rows):
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(statement, rows or [()])
            connection.commit()

    def put(self, *rows):
        self.run("INSERT INTO stock VALUES (?, ?, ?)", *rows)


@pytest.fixture
def warehouse(shop, monkeypatch):
    with (shop.root / "shop.py").open("a") as file:
        file.write(TABLES)
    with (shop.root / "feilun.toml").open("a") as file:
        file.write(SOURCES)
    monkeypatch.setenv("TEST_WAREHOUSE", "data/warehouse.db")
    (shop.root / "data").mkdir()
    (shop.root / "exports").mkdir()
    (shop.root / "exports" / "price_1.csv").write_text(
        "item_id,价格,at\n1,2.5,2026-01-01\n2,3.5,2026-01-02 10:00\n", encoding="gb18030"
    )
    return Warehouse(shop.root / "data" / "warehouse.db")


def counts(status):
    return tuple(status[name] for name in ("rows", "new", "duplicates", "conflicts", "bad"))


def test_what_is_new_comes_in(shop, warehouse):
    warehouse.put((1, 5, iso(90)), (2, 6, iso(60)))
    tables = shop.json("sync")["tables"]
    assert counts(tables["stock"]) == counts(tables["price"]) == (2, 2, 0, 0, 0)
    warehouse.put((1, 4, iso()))
    assert counts(shop.json("sync", "stock")["tables"]["stock"]) == (3, 1, 2, 0, 0)
    assert counts(shop.json("sync", "stock", "--full")["tables"]["stock"]) == (3, 0, 3, 0, 0)
    with closing(compose.event_log(load(shop.root))) as log:
        sources = [record.source for _, record in log.read(0)]
    assert sorted(sources) == ["table:price"] * 2 + ["table:stock"] * 3


def test_what_was_refused_is_said_with_what_to_do(shop, warehouse):
    moment = iso(60)
    warehouse.put((1, 5, moment), (2, "many", iso(50)))
    shop.run("sync", "stock")
    warehouse.run("UPDATE stock SET quantity = 4 WHERE item_id = 1")
    said = shop.run("sync", "stock").stdout
    assert "stock: 1 rows changed while updated_at stayed the same" in said
    assert "item_id names a row" in said
    assert "feilun events bad" in said
    reasons = [bad["reason"] for bad in shop.json("events", "bad")["bad"]]
    assert len(reasons) == 2
    assert shop.json("sync", "--status")["tables"]["stock"]["conflicts"] == 1


def test_status_shows_it_without_reading(shop, warehouse):
    warehouse.put((1, 5, iso(90)))
    assert shop.json("sync", "--status")["tables"] == {}
    shop.run("sync", "stock")
    (shop.root / "data" / "warehouse.db").unlink()
    assert shop.json("sync", "--status")["tables"]["stock"]["new"] == 1
    result = shop.run("status", "--json", code=3)
    assert '"watermark"' in result.stdout
    assert "done" in shop.run("status", code=3).stdout


def test_one_that_fails_does_not_keep_the_others_from_it(shop, warehouse, monkeypatch):
    monkeypatch.delenv("TEST_WAREHOUSE")
    failed = shop.run("sync", code=2)
    assert "TEST_WAREHOUSE is not set" in failed.stderr
    assert "export TEST_WAREHOUSE" in failed.stderr
    tables = shop.json("sync", "--status")["tables"]
    assert (tables["stock"]["state"], tables["stock"]["failures"]) == ("failed", 1)
    assert counts(tables["price"]) == (2, 2, 0, 0, 0)
    monkeypatch.setenv("TEST_WAREHOUSE", "data/nowhere.db")
    assert "nowhere.db" in shop.run("sync", "stock", code=2).stderr
    assert not (shop.root / "data" / "nowhere.db").exists()


def test_a_table_that_another_process_is_at_is_left_alone(shop, warehouse):
    config = load(shop.root)
    prepare_data(config)
    with ProcessLock(config.run_path, "sync stock"):
        assert "feilun sync stock runs already" in shop.run("sync", "stock", code=3).stderr
    shop.run("sync", "stock")


def test_the_schedule_follows_the_clock(shop, warehouse, monkeypatch, caplog):
    from feilun.app.syncing import Syncing
    from feilun.clock import DAY, SECOND, ManualClock
    from feilun.testing.fakes import MemoryLog
    from feilun.testing.table_fakes import InMemorySyncs

    config = load(shop.root)
    prepare_data(config)
    clock = ManualClock(20_000 * DAY)
    syncing = Syncing(config, compose.definitions(config), MemoryLog(), InMemorySyncs(), clock)

    def due_after(seconds):
        clock.advance(round(seconds * SECOND))
        return syncing.due()

    assert due_after(0) == ["stock"]  # price has no every=
    syncing.try_one("stock", lambda: False)
    assert (due_after(0.9), due_after(0.1)) == ([], ["stock"])
    monkeypatch.delenv("TEST_WAREHOUSE")
    for wait in (30, 60, 120):
        syncing.try_one("stock", lambda: False)
        assert (due_after(wait - 1), due_after(1)) == ([], ["stock"])
    assert "stock could not be synchronised: [sources.warehouse] url" in caplog.text
    monkeypatch.setenv("TEST_WAREHOUSE", "data/warehouse.db")
    syncing.try_one("stock", lambda: False)
    assert (due_after(0.9), due_after(0.1)) == ([], ["stock"])
    with ProcessLock(config.run_path, "sync stock"):
        assert syncing.due() == []


def test_unknown_tables_and_sources_are_said(shop, warehouse):
    assert "stock, price" in shop.run("sync", "stok", code=2).stderr
    toml = shop.root / "feilun.toml"
    toml.write_text(toml.read_text().replace("sources.warehouse", "sources.house"))
    for command in ("sync", "check"):
        error = shop.run(command, code=2).stderr
        assert "stock" in error
        assert "[sources.warehouse]" in error


def test_a_project_without_tables_has_nothing_to_synchronise(shop):
    assert "no tables" in shop.run("sync", code=2).stderr


def test_clients_cannot_send_rows(shop, warehouse):
    from feilun.clock import ManualClock
    from feilun.events.collector import Collector
    from feilun.testing.fakes import MemoryLog

    collector = Collector(compose.definitions(load(shop.root)), MemoryLog(), ManualClock(10**15))
    body = b'{"event": "stock", "fields": {"item_id": 1, "quantity": 9}}'
    (answer,) = collector.accept("web", body)
    assert answer.status == "bad"
    assert "feilun sync" in answer.reason
    (answer,) = collector.accept(
        "web", b'{"event": "click", "fields": {"user_id": 1, "item_id": 2}}'
    )
    assert answer.status == "accepted"


def wrong_sources():
    yield "[sources.Warehouse]\ntype = 'files'\npath = '{table}.csv'", "lower-case"
    yield "[sources]\nwarehouse = 5", "must be a table"
    yield "[sources.a]\nurl = 'x'", "type must be one of sqlalchemy, files, iceberg"
    yield "[sources.a]\ntype = 'sqlalchemy'", "needs url"
    yield "[sources.a]\ntype = 'sqlalchemy'\nurl = 5", "takes url"
    yield "[sources.a]\ntype = 'sqlalchemy'\nurl = 'x'\npath = 'x'", "path: a sqlalchemy source"
    yield "[sources.a]\ntype = 'files'\npath = 'x.csv'", "{table}"
    yield "[sources.a]\ntype = 'files'\npath = '{table}'\nencoding = 'latin'", "encoding must be"
    yield "[sources.a]\ntype = 'iceberg'\ncatalog = {uri = 5}", "takes catalog"
    yield "sources = 5", "sources must be tables"


@pytest.mark.parametrize(("text", "said"), list(wrong_sources()))
def test_wrong_sources_are_refused(tmp_path, text, said):
    (tmp_path / "feilun.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert said in caught.value.message


@pytest.mark.parametrize("url", [
    "postgresql+psycopg://shop:${TEST_PASSWORD}@127.0.0.1:1/shop",
    "${TEST_URL}",
    "nodialect://shop:${TEST_PASSWORD}@127.0.0.1:1/shop",
    "no url at all ${TEST_PASSWORD}",
])  # fmt: skip
def test_no_message_and_no_file_holds_a_password(shop, warehouse, monkeypatch, url):
    secret = "s3cr%40t-w0rd"
    monkeypatch.setenv("TEST_PASSWORD", secret)
    monkeypatch.setenv("TEST_URL", f"postgresql+psycopg://shop:{secret}@127.0.0.1:1/shop")
    toml = shop.root / "feilun.toml"
    toml.write_text(toml.read_text().replace("sqlite:///${TEST_WAREHOUSE}", url))
    result = shop._call(["sync", "stock"], shop.root)
    assert result.returncode in (2, 3)
    everything = result.stdout + result.stderr + shop.run("sync", "--status").stdout
    everything += repr(load(shop.root))
    for path in shop.root.rglob("*"):
        if path.is_file():
            everything += path.read_bytes().decode("latin-1")
    for text in (secret, "s3cr@t-w0rd"):
        assert text not in everything


@pytest.mark.xdist_group("up")
def test_killed_at_any_moment_no_row_is_lost_or_counted_twice(shop, warehouse, until):
    size, chance = 30_000, random.Random()
    start = datetime.now(UTC) - timedelta(days=2)
    rows = [(n, n, (start + timedelta(seconds=n)).isoformat()) for n in range(size)]
    warehouse.put(*rows)
    config = load(shop.root)
    prepare_data(config)
    process = subprocess.Popen(
        [sys.executable, "-m", "feilun", "sync", "stock"],
        cwd=shop.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with closing(compose.event_log(config)) as log:
        goal = chance.randint(1, 20_000)
        until(lambda: log.end() >= goal or process.poll() is not None)
        process.kill()
        process.wait(timeout=30)
        killed_at = log.end()
    done = shop.json("sync", "stock")["tables"]["stock"]
    assert 0 < killed_at < size
    assert done["state"] == "done"
    assert done["rows"] <= size - killed_at + 5_000 + 3_601  # a chunk and the lookback again
    with closing(compose.event_log(config)) as log:
        records = [record for _, record in log.read(0, size + 1)]
    assert len(records) == size
    assert len({record.subject for record in records}) == size


@pytest.mark.xdist_group("up")
def test_under_up_tables_are_kept_fresh_and_a_source_may_fail(shop, warehouse, start, until):
    warehouse.put((1, 5, iso(60)))

    def stock():
        status, reply = shop.call("/api/item_profile?item_id=1")
        return reply["features"]["stock"] if status == 200 else None

    with start(shop):
        until(lambda: stock() == 5)
        warehouse.run("ALTER TABLE stock RENAME TO hidden")

        def failed():
            return shop.json("sync", "--status")["tables"]["stock"]["state"] == "failed"

        until(failed)
        status = shop.json("status")
        assert status["processes"]["sync"]["state"] == "ready"
        assert "no table 'stock'" in status["tables"]["stock"]["error"]
        assert stock() == 5
        warehouse.run("ALTER TABLE hidden RENAME TO stock")
        warehouse.put((1, 4, iso()))
        shop.run("sync", "stock")  # sooner than the next try
        until(lambda: stock() == 4)
        warehouse.put((1, 3, iso()))
        until(lambda: stock() == 3)  # on schedule again
