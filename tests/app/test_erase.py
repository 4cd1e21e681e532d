"""``feilun erase``: nobody's byte stays, everybody else's value does, and no old copy undoes it."""

import json
import random
import shutil
from contextlib import closing

import pytest

from feilun.app import compose, erasing
from feilun.app.config import load, prepare_data
from feilun.app.erasure_list import ErasureList
from feilun.clock import DAY, SystemClock
from feilun.errors import ConfigError, CorruptData
from feilun.events.collector import Collector
from feilun.testing.fakes import MemoryLog

MARKER = "wei-xiaobao"
WHO = f"user_id={MARKER}"
EVENTS = [
    (user, item, f"2026-03-{day:02}T{hour:02}:00:00Z", note)
    for day in range(1, 8)
    for hour, (user, item, note) in enumerate(
        [("anna", 1, "a"), (MARKER, 1, f"I am {MARKER}"), ("ben", 2, "b"), (MARKER, 3, "x")]
    )
]


@pytest.fixture
def config(shop):
    """A shop whose customers have names, and say something with every click."""
    path = shop.root / "shop.py"
    text = path.read_text().replace('fl.Entity("user_id", int)', 'fl.Entity("user_id", str)')
    text = text.replace("user_id: fl.Field[int]", "user_id: fl.Field[str]")
    text = text.replace("user_id: int", "user_id: str")
    text = text.replace(
        "    item_id: fl.Field[int]\n",
        "    item_id: fl.Field[int]\n    note: fl.Field[str | None]\n",
        1,
    )
    text = text.replace(
        "class Trends(",
        '''class ItemProfile(fl.FeatureView, entity=item):
    """What is said of an item."""

    clicks = fl.count(Click, window="30d")
    said = fl.last(Click.note, n=5)
    customers = fl.distinct(Click.user_id)


class Trends(''',
    )
    path.write_text(
        text.replace(
            "n=10)\n\n\n@fl.model", "n=10)\n    newest = fl.last(Click.user_id, n=3)\n\n\n@fl.model"
        )
    )
    config = load(shop.root)
    prepare_data(config)
    return config


def outside(shop):
    """Return a folder beside the project's."""
    folder = shop.root.with_name(f"{shop.root.name}-outside")
    folder.mkdir(exist_ok=True)
    return folder


def write_history(shop):
    lines = [",".join(map(str, event)) for event in EVENTS]
    path = outside(shop) / "clicks.csv"
    path.write_text("\n".join(["user_id,item_id,when,note", *lines]))
    return path


def import_history(shop):
    return shop.json("import", write_history(shop), "--event", "click", "--time", "when")


def collect(config, *events):
    """Take events in as the gateway does; return what became of each."""
    with closing(compose.event_log(config)) as log:
        collector = Collector(compose.definitions(config), log, SystemClock())
        raw = json.dumps([{"event": "click", **event} for event in events]).encode()
        return [answer.status for answer in collector.accept("web", raw)]


def hits(folder):
    """Return the files that hold the marker, but for definitions."""
    wanted = [MARKER.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(one in path.read_bytes() for one in wanted)
    ]


def tiles(store):
    """Return everything that a store has."""
    return {key: value for part in store._env.parts("values") for key, value in part}


def tiles_without(config, root):
    """Return the tiles of a log that never had the subject."""
    with closing(compose.event_log(config)) as log:
        records = [record for _, record in log.read(0, 100_000) if record.subject != WHO]
        schemas = log.schemas()
    clean = MemoryLog()
    clean.declare(schemas)
    clean.append(records)
    from feilun.adapters.lmdb import LmdbOnlineStore

    with closing(LmdbOnlineStore(root)) as store:
        with closing(compose.releases(config)) as history:
            project = compose.definitions(config)
            compose.engine(config, project, clean, store, history).rebuild()
        return tiles(store)


def fold(config):
    with (
        closing(compose.event_log(config)) as log,
        closing(compose.online_store(config)) as store,
        closing(compose.releases(config)) as history,
    ):
        engine = compose.engine(config, compose.definitions(config), log, store, history)
        while engine.run_once(7):
            pass
        return tiles(store)


def archive(config, *names):
    pytest.importorskip("pyiceberg")
    from feilun.features.archive import Archiver

    with closing(compose.event_log(config)) as log, closing(compose.lake(config)) as lake:
        Archiver(log, lake, SystemClock()).run_all()
        for name in names:
            lake.name_snapshot(name)


def test_what_others_have_is_as_if_the_erased_had_never_been(shop, config, tmp_path):
    import_history(shop)
    fold(config)
    assert MARKER.encode() in b"".join(fold(config))
    wanted = tiles_without(config, tmp_path / "clean")
    said = shop.run("erase", WHO).stdout
    assert "14 records" in said
    with closing(compose.online_store(config)) as store:
        assert tiles(store) == wanted
    found = shop.json("features", "user_profile:clicks", "user_id=anna")
    assert found["features"]["user_profile:clicks"] == 7
    assert hits(shop.root) == []


def test_the_platform_must_stand_still(shop, config):
    import_history(shop)
    with closing(compose.event_log(config)):
        assert "stop the platform" in shop.run("erase", WHO, code=3).stderr
    assert not (shop.root / "erasures.jsonl").exists()
    assert shop.run("events", "bad").stdout


def test_the_audit_names_nobody(shop, config):
    import_history(shop)
    shop.run("erase", WHO)
    path = shop.root / "erasures.jsonl"
    head, begun, done = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert head["format"] == "feilun-erasures/1"
    assert begun["took"] == {"records": 14, "models": []}
    assert (begun["erasure"], done["erasure"]) == (1, 1)
    assert begun["begun"] <= done["done"] < SystemClock().now()
    (name,) = begun["subjects"]
    assert len(bytes.fromhex(name)) == 16


def test_an_old_file_brings_nobody_back_but_the_person_may_come_back(shop, config):
    import_history(shop)
    click = {
        "id": f"{MARKER}-1",
        "time": SystemClock().now(),
        "fields": {"user_id": MARKER, "item_id": 5},
    }
    assert collect(config, click) == ["accepted"]
    shop.run("erase", WHO)
    done = import_history(shop)
    assert (done["duplicates"], done["erased"], done["accepted"]) == (14, 14, 0)
    assert collect(config, click) == ["erased"]
    assert hits(shop.root) == []
    assert collect(config, {"fields": {"user_id": MARKER, "item_id": 5}}) == ["accepted"]
    fold(config)
    assert shop.json("features", "user_profile:clicks", WHO)["features"]["user_profile:clicks"] == 1
    assert shop.json("erase", WHO)["records"] == 1
    assert hits(shop.root) == []


def test_an_old_copy_is_refused_until_all_are_erased_again(shop, config):
    import_history(shop)
    fold(config)
    archive(config)
    shutil.copytree(shop.root / ".feilun", outside(shop) / "backup", dirs_exist_ok=True)
    shop.run("erase", "user_id=anna")
    shop.run("erase", WHO)
    collect(config, {"fields": {"user_id": "anna", "item_id": 5}})
    shutil.rmtree(shop.root / ".feilun")
    shutil.copytree(outside(shop) / "backup", shop.root / ".feilun")
    for command in (
        ["events", "bad"],
        ["features", "user_profile:clicks", WHO],
        ["lake"],
        ["serve", "engine"],
        ["import", write_history(shop), "--event", "click", "--time", "when"],
    ):
        assert "feilun erase --again" in shop.run(*command, code=2).stderr
    report = shop.json("erase", "--again")
    assert (report["records"], report["lake_rows"]) == (21, 21)
    assert hits(shop.root) == []
    assert import_history(shop)["erased"] == 21
    found = shop.json("features", "user_profile:clicks", "user_id=ben")
    assert found["features"]["user_profile:clicks"] == 7


@pytest.mark.parametrize(
    ("room", "name"),
    [
        ("feilun.adapters.lmdb.LmdbEventLog", "erase"),
        ("feilun.adapters.lmdb.LmdbOnlineStore", "erase"),
        ("feilun.features.engine.Engine", "rebuild"),
        ("feilun.app.erasing", "_erase_from"),
        ("feilun.app.erasure_list.ErasureList", "finish"),
    ],
)
def test_one_that_was_stopped_is_finished_by_the_next(shop, config, monkeypatch, room, name):
    import_history(shop)
    fold(config)
    project = compose.definitions(config)

    def stopped(*_arguments, **_named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"{room}.{name}", stopped)
        with pytest.raises(KeyboardInterrupt):
            erasing.erase(config, project, [WHO], SystemClock())
    with pytest.raises(ConfigError, match="not finished"):
        compose.event_log(config)
    erasing.erase(config, project, ["user_id=anna"], SystemClock())
    assert hits(shop.root) == []
    with closing(compose.event_log(config)) as log:
        assert {record.subject for _, record in log.read(0)} == {"user_id=ben"}
    assert ErasureList(config.root).unfinished == []


def test_one_that_changed_nothing_is_forgotten(shop, config, monkeypatch):
    import_history(shop)

    def damaged(*_arguments, **_named):
        raise CorruptData("A bad event fails its checksum.")

    with monkeypatch.context() as patch:
        patch.setattr("feilun.adapters.lmdb.LmdbEventLog.erase", damaged)
        assert "checksum" in shop.run("erase", WHO, code=1).stderr
    with closing(compose.event_log(config)) as log:
        assert len(log.read(0)) == len(EVENTS)
    assert shop.json("erase", WHO)["erasure"] == 2


def test_a_list_cut_short_by_a_crash_is_read_and_written_on(config):
    listed = ErasureList(config.root)
    erasures = erasing.Erasures.begun()
    one = listed.begin(erasures, {erasures.name(WHO): 5}, 1)
    listed.finish(one, 2)
    whole = listed.path.read_bytes()
    for end in range(whole.index(b"\n") + 1, len(whole)):
        listed.path.write_bytes(whole[:end])
        again = ErasureList(config.root)
        assert again.begin(erasures, {erasures.name("user_id=ben"): 7}, 3) in (1, 2)
        assert ErasureList(config.root).erasures.moment("user_id=ben") == 7


def test_a_list_of_another_folder_is_refused(shop, config):
    import_history(shop)
    shop.run("erase", WHO)
    path = shop.root / "erasures.jsonl"
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), "key": "00" * 32}) + "\n" + rest)
    for command in (["events", "bad"], ["erase", "user_id=anna"]):
        assert "is not the list" in shop.run(*command, code=2).stderr
    path.write_text("what?\n")
    assert "Put it back" in shop.run("events", "bad", code=1).stderr


def test_whom_must_be_said_as_the_definitions_say_it(shop, config):
    assert "--again" in shop.run("erase", code=2).stderr
    assert "--again" in shop.run("erase", WHO, "--again", code=2).stderr
    assert "NAME=VALUE" in shop.run("erase", MARKER, code=2).stderr
    assert "'usr_id'" in shop.run("erase", "usr_id=1", code=2).stderr
    assert "int" in shop.run("erase", "item_id=x", code=2).stderr
    assert not (shop.root / "erasures.jsonl").exists()


@pytest.mark.xdist_group("up")
def test_no_file_of_a_whole_platform_has_a_byte_of_the_erased(shop, config, start, until):
    """Collected, folded, predicted, trained on, archived, named, logged; then gone."""
    pytest.importorskip("mlflow")
    path = shop.root / "shop.py"
    path.write_text(path.read_text().replace("fl.better(", "fl.no_worse(margin=1.0, "))
    chance = random.Random(1)
    users = [MARKER, *(f"customer-{n}" for n in range(59))]
    favourites = {user: chance.sample(range(50), 5) for user in users}
    lines = [
        f"{user},{item},2026-03-{day:02}T{place % 24:02}:00:00Z,{user} likes {item}"
        for day in range(1, 25)
        for place, (user, liked) in enumerate(favourites.items())
        for item in sorted({*chance.sample(liked, 3), chance.randrange(50)})
    ]
    told = sum(line.startswith(MARKER) for line in lines)
    history = outside(shop) / "clicks.csv"
    history.write_text("\n".join(["user_id,item_id,when,note", *lines]))
    shop.run("import", history, "--event", "click", "--time", "when")
    with start(shop):
        now = SystemClock().now()
        click = {"user_id": MARKER, "item_id": 3, "note": f"mail me: {MARKER}"}
        events = [{"event": "click", "id": f"{MARKER}-1", "fields": click}]
        events += [{"event": "click", "id": f"{MARKER}-1", "fields": {**click, "item_id": 4}}]
        events += [{"event": "click", "time": now - 30 * DAY, "fields": click}]
        events += [{"event": "click", "fields": {"user_id": MARKER, "item_id": "many"}}]
        shop.call("/api/events", {"events": events})
        until(lambda: shop.call("/status")[1]["lag"] == 0)
        assert shop.call(f"/api/recommend?user_id={MARKER}")[0] == 200
        turn = shop.json("train", "ranker")
        assert turn["state"] == "promoted", turn
        until(lambda: shop.call("/status")[1]["models"]["ranker"]["version"] == 1)
        assert shop.call(f"/api/recommend?user_id={MARKER}")[0] == 200
        assert "stop the platform" in shop.run("erase", WHO, code=3).stderr
    archive(config, "train/1")
    untouched = shop.json("features", "user_profile", "user_id=customer-1")
    (shop.root / ".feilun/run/engine.log").write_text(f"what {MARKER} did\n")
    before = hits(shop.root)
    assert {name.split("/")[1] for name in before} == {"lake", "log", "run", "tiles"}
    report = shop.json("erase", WHO)
    assert report["records"] == told + 2 + 2
    assert report["lake_rows"] == report["records"]
    assert report["snapshots"] == ["train/1"]
    (model,) = report["models"]
    assert (model["model"], model["version"], model["in_production"]) == ("ranker", 1, True)
    assert not model["names"]
    assert hits(shop.root) == []
    import pyarrow.parquet as parquet

    for file in (shop.root / ".feilun/lake").rglob("*.parquet"):
        assert MARKER not in str(parquet.read_table(file).to_pylist())
    found = shop.json("features", "user_profile", "user_id=customer-1")
    assert found["features"] == untouched["features"]
