"""Events change between two starts of the platform: what may not stops before anything runs."""

import json
from contextlib import closing

import pytest

from feilun.adapters.lmdb import LmdbEventLog
from feilun.app import compose
from feilun.app.config import load, prepare_data
from feilun.clock import SystemClock
from feilun.events.collector import Collector


def edit(shop, *changes):
    path = shop.root / "shop.py"
    text = path.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    path.write_text(text)


@pytest.fixture
def clicked(shop):
    """A shop whose log has a click."""
    config = load(shop.root)
    prepare_data(config)
    body = {"event": "click", "id": "1", "fields": {"user_id": 1, "item_id": 2}}
    with closing(compose.event_log(config)) as log:
        collector = Collector(compose.definitions(config), log, SystemClock())
        (answer,) = collector.accept("web", json.dumps(body).encode())
    assert answer.status == "accepted"
    return shop


def schemas(shop):
    with closing(LmdbEventLog(shop.root / ".feilun/log")) as log:
        return log.schemas()


ITEM = "    item_id: fl.Field[int]\n"


def test_check_shows_what_has_changed(clicked):
    assert clicked.json("check")["changes"] == {}
    edit(clicked, (ITEM, ITEM + "    color: fl.Field[str | None] = fl.Field(default=None)\n"))
    before = schemas(clicked)
    assert clicked.json("check")["changes"] == {"click": ["+ color (optional)"]}
    assert "click: + color (optional)" in clicked.run("check").stdout
    assert schemas(clicked) == before


def test_a_project_that_never_ran_has_no_changes(shop):
    assert shop.json("check")["changes"] == {}
    assert not (shop.root / ".feilun").exists()


@pytest.mark.parametrize("command", [["check"], ["up"], ["serve", "engine"]])
def test_what_may_not_change_is_refused_with_the_way_out(clicked, command):
    before = schemas(clicked)
    edit(clicked, (ITEM, ITEM + "    size: fl.Field[int]\n"))
    said = clicked.run(*command, code=2).stderr
    assert "click.size: it is required, and records of click.v1." in said
    assert "Write fl.Field[int | None]." in said
    assert schemas(clicked) == before
