"""The archiver's process, what the supervisor makes of it, and ``feilun lake``."""

import os
from contextlib import closing

import pytest

from feilun.app import archiving, compose
from feilun.app.config import load
from feilun.app.locks import ProcessLock
from feilun.app.supervisor import PARTS, parts_of
from feilun.clock import SystemClock
from feilun.errors import ConfigError, MissingExtra
from feilun.features import archive
from feilun.records.schema import schemas_of
from feilun.testing.lake_fakes import MemoryLake
from feilun.testing.records import make_record


class StopAfter:
    """Says stop once a condition holds."""

    def __init__(self, condition):
        self.condition = condition
        self.looks = 0

    def __bool__(self):
        self.looks += 1
        assert self.looks < 10_000
        return self.condition()


@pytest.fixture
def config(shop):
    (shop.root / ".feilun/run").mkdir(parents=True)
    return load(shop.root)


def filled(config, count=3):
    event = compose.definitions(config).events["click"]
    with closing(compose.event_log(config)) as log:
        log.declare(schemas_of([event]))
        log.append([make_record(str(n), n, 7, schema=event.schema_id) for n in range(count)])


def archive_until(config, monkeypatch, condition):
    monkeypatch.setattr(os, "nice", lambda _more: 0)
    monkeypatch.setattr(archive, "LONGEST_WAIT", 0)
    monkeypatch.setattr(archiving, "PAUSE", 0.001)
    monkeypatch.setattr(archiving, "FAILED_PAUSE", 0.001)
    with ProcessLock(config.run_path, "archiver") as lock:
        archiving.run(config, lock, StopAfter(condition))


def test_iceberg_is_not_imported_before_something_is_due(config, monkeypatch):
    looks = []
    monkeypatch.setattr(compose, "lake", lambda _config: pytest.fail("opened"))
    archive_until(config, monkeypatch, lambda: looks.append(1) or len(looks) > 20)


def test_what_fails_is_tried_again(config, monkeypatch):
    filled(config)
    lake = MemoryLake()
    answers = [ConfigError("not yet"), lake]

    def opened(_config):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(compose, "lake", opened)
    archive_until(config, monkeypatch, lambda: lake.archived() == 3)
    assert [status.name for status in lake.tables()] == ["events.click"]


def test_it_tidies_the_lake_once_in_a_while(config, monkeypatch):
    filled(config)
    lake, tidied = MemoryLake(), []
    monkeypatch.setattr(compose, "lake", lambda _config: lake)
    monkeypatch.setattr(lake, "maintain", tidied.append)
    monkeypatch.setattr(archiving, "UPKEEP_APPENDS", 1)
    archive_until(config, monkeypatch, lambda: bool(tidied))
    assert abs(tidied[0] - SystemClock().now()) < 60_000_000


def test_the_archiver_is_a_part_where_its_libraries_are(shop, monkeypatch):
    project = compose.definitions(load(shop.root))
    monkeypatch.setattr("feilun.app.supervisor.lake_installed", lambda: True)
    assert parts_of(load(shop.root), project) == (*PARTS, "archiver")
    assert parts_of(load(shop.root, lake=False), project) == PARTS
    monkeypatch.setattr("feilun.app.supervisor.lake_installed", lambda: False)
    assert parts_of(load(shop.root), project) == PARTS


def test_without_its_libraries_the_lake_names_the_command(config, monkeypatch):
    monkeypatch.setattr(compose, "lake_installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"feilun\[lake\]"):
        compose.lake(config)


def test_lake_must_be_true_or_false(shop):
    path = shop.root / "feilun.toml"
    path.write_text(path.read_text() + 'lake = "no"\n')
    with pytest.raises(ConfigError, match="true or false"):
        load(shop.root)


def test_feilun_lake_shows_what_is_archived(shop, config):
    pytest.importorskip("pyiceberg")
    assert "0 of 0 records" in shop.run("lake").stdout
    assert not config.lake_path.exists()
    filled(config)
    with closing(compose.event_log(config)) as log, closing(compose.lake(config)) as lake:
        assert archive.Archiver(log, lake, SystemClock()).run_all() == 3
    said = shop.run("lake").stdout
    assert "events.click" in said
    assert "3 of 3 records" in said
    found = shop.json("lake")
    assert (found["archived"], found["log_end"]) == (3, 3)
    assert [(t["name"], t["rows"], t["archived"]) for t in found["tables"]] == [
        ("events.click", 3, 3)
    ]


def test_feilun_archive_archives_now(shop, config):
    pytest.importorskip("pyiceberg")
    filled(config)
    assert shop.json("archive") == {"taken": 3, "archived": 3}
    filled(config, 5)
    assert "2 records" in shop.run("archive").stdout
    assert "0 records" in shop.run("archive").stdout
    assert shop.json("lake")["archived"] == 5
