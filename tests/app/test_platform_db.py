"""``platform.db`` lost, damaged or put back under a running platform: no door opens."""

import os
import re
import shutil
import signal
import threading
import time
from contextlib import closing, contextmanager

import pytest

pytestmark = pytest.mark.xdist_group("platform_db")

SETTINGS = ("workers = 2",)
PATH = "/api/user_profile?user_id=1"
REFUSED = {401, 503, None}
"""What somebody without a key may be answered; None: the connection was cut."""


def token_of(shop):
    return (shop.root / ".feilun/run/token").read_text().strip()


def files(shop):
    return sorted((shop.root / ".feilun").glob("platform.db*"))


def workers(shop, until, without=()):
    """Return the state that each of two workers gives: ask until both have answered."""
    found = {}

    def both():
        try:
            said = shop.call("/status", key=token_of(shop))[1]
        except OSError:  # the worker that was killed held the connection
            return False
        if said["worker"] not in without:
            found[said["worker"]] = said
        return len(found) == 2

    until(both)
    return found


def kill(shop, victim, until):
    """Kill one of the two workers; return both states once another one answers in its place."""
    os.kill(int(victim.removeprefix("gateway-")), signal.SIGKILL)
    return workers(shop, until, without={victim})


def gateway_pid(shop):
    return int((shop.root / ".feilun/run/gateway.lock").read_text().split()[0])


@contextmanager
def asking(shop):
    """Ask without a key all the time, over a new connection each; give the list of statuses."""
    statuses, done = [], threading.Event()

    def ask():
        while not done.is_set():
            for path in (PATH, "/api/recommend?user_id=1", "/status"):
                try:
                    statuses.append(shop.status(path))
                except OSError:  # the worker that was killed held it
                    statuses.append(None)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        done.set()
        thread.join()


def add_team(shop, name, until):
    key = shop.json("team", "add", name, "--can", "user_profile", "--quota", "100000/s")["key"]
    until(lambda: everybody(shop, key) == {200})
    return key


def everybody(shop, key):
    """Return what a key is answered by all workers, each asked by many connections."""
    return {shop.status(PATH, key) for _ in range(20)}


def test_where_it_is_lost_no_door_opens_and_what_is_known_goes_on(running, tmp_path, until):
    key = add_team(running, "lost", until)
    before = gateway_pid(running)
    with asking(running) as strangers:
        for file in files(running):
            shutil.move(file, tmp_path)
        states = kill(running, min(workers(running, until)), until)
        until(lambda: 503 in strangers)  # by the new worker, which knows nobody
        assert everybody(running, key) == {200, 503}  # the old one answers those it knows
        ready = {running.call("/ready")[1]["status"] for _ in range(40)}
        assert ready == {"degraded", "not ready"}
        for state in states.values():
            assert any("platform.db is gone" in problem for problem in state["problems"]), state
        assert "recover" in running.run("team", "list", code=2).stderr
        assert "platform.db is gone" in running.run("status").stdout
        assert files(running) == []  # nobody made another
        for file in tmp_path.glob("platform.db*"):
            shutil.move(file, running.root / ".feilun")
        until(lambda: everybody(running, key) == {200})
    assert set(strangers) <= REFUSED
    until(lambda: {running.call("/ready")[1]["status"] for _ in range(20)} == {"ready"})
    assert gateway_pid(running) == before


def test_where_it_is_damaged_one_killed_worker_does_not_end_the_other(running, tmp_path, until):
    key = add_team(running, "damaged", until)
    before = gateway_pid(running)
    with asking(running) as strangers:
        for file in files(running):
            shutil.copy(file, tmp_path)
            if not file.name.endswith("-shm"):  # all of the -wal, or its copy of a page would do
                size = file.stat().st_size if file.name.endswith("-wal") else 12_000
                with file.open("r+b") as damaged:
                    damaged.write(bytes(size))
        one, other = workers(running, until)
        kill(running, one, until)
        assert 200 in everybody(running, key)  # the other knows the keys, and goes on
        kill(running, other, until)
        assert everybody(running, key) == {503}
        for file in files(running):
            file.unlink()
        for file in tmp_path.glob("platform.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, running.root / ".feilun")
        until(lambda: everybody(running, key) == {200})
    assert set(strangers) <= REFUSED
    assert gateway_pid(running) == before


def test_where_the_whole_folder_is_taken_away_all_ends_and_nobody_gets_an_empty_platform(
    tmp_path, shop_maker, start, until
):
    shop = shop_maker(tmp_path, *SETTINGS)
    with start(shop) as up:
        add_team(shop, "growth", until)
        one, _other = workers(shop, until)
        with asking(shop) as strangers:
            (shop.root / ".feilun").rename(shop.root / "away")
            os.kill(int(one.removeprefix("gateway-")), signal.SIGKILL)
            until(lambda: up.process.poll() is not None)  # what it wrote could be lost
        assert not (shop.root / ".feilun/platform.db").exists()
        assert "was taken away" in up.said()
        assert "Put it back" in up.said()
    assert set(strangers) <= REFUSED


def restored(shop, tmp_path):
    """Copy the database away, delete it, and copy it back, as a restore does."""
    saved = tmp_path / "saved"
    saved.mkdir()
    for file in files(shop):
        if not file.name.endswith("-shm"):
            shutil.copy(file, saved)
    for file in files(shop):
        file.unlink()
    for file in saved.iterdir():
        shutil.copy(file, shop.root / ".feilun")
    shutil.rmtree(saved)


def test_the_kill_switch_works_on_a_database_that_was_put_back(shop_maker, tmp_path, start, until):
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("mlflow")
    shop = shop_maker(tmp_path, "workers = 2", "lake = false")
    definitions = (shop.root / "shop.py").read_text()
    begin, end = definitions.index("@fl.model("), definitions.index("@fl.capability(")
    model = re.search(r"@fl.model\(\n(.*?)\)\ndef", definitions[begin:end], re.DOTALL)[1]
    adopted = f'ranker = fl.adopted(\n    "ranker",\n{model})\n\n\n'
    rest = definitions[end : definitions.index("loop = ")]
    (shop.root / "shop.py").write_text(definitions[:begin] + adopted + rest)
    x = [[float(n % 7), float(n % 5)] for n in range(100)]
    for trees in (1, 2):
        data = xgboost.DMatrix(x, [sum(row) for row in x])
        path = shop.root / f"{trees}.ubj"
        xgboost.train({"nthread": 1}, data, trees).save_model(path)
        shop.run("adopt", "ranker", path, *["--replace"] * (trees == 2))

    def versions():
        return {state["models"]["ranker"]["version"] for state in workers(shop, until).values()}

    def arms():
        rollouts = [each["models"]["ranker"]["rollout"] for each in workers(shop, until).values()]
        return {rollout and rollout["version"] for rollout in rollouts}

    with start(shop):
        assert "2 workers" in shop.run("rollout", "start", "ranker", 1, "--percent", 100).stdout
        assert arms() == {1}
        restored(shop, tmp_path)
        began = time.monotonic()
        assert "2 workers follow" in shop.run("rollout", "stop", "ranker").stdout
        took = time.monotonic() - began
        assert arms() == {None}
        assert took < 5  # the command itself is most of it
        restored(shop, tmp_path)
        assert versions() == {2}
        assert "version 1 is in production" in shop.run("rollback", "ranker").stdout
        assert versions() == {1}


def test_a_stop_that_nobody_follows_is_no_success(tmp_path, shop_maker, monkeypatch):
    from feilun.app import compose
    from feilun.app.config import load
    from feilun.app.locks import ProcessLock
    from feilun.flywheel import release

    shop = shop_maker(tmp_path, "workers = 2")
    config = load(shop.root)
    with closing(compose.releases(config)) as releases:
        for at in (1, 2, 3):
            before = releases.rollout("ranker")
            releases.append_rollout(
                "ranker", "full", at, "b", percent=100, salt="s", release=0,
                after=before.sequence if before else 0, offset=0, at=at, by="ann",
            )  # fmt: skip
    monkeypatch.setattr(release, "WAIT_SECONDS", 0.1)
    (shop.root / ".feilun/run").mkdir(exist_ok=True)
    with ProcessLock(shop.root / ".feilun/run", "gateway"):
        stopped = shop.run("rollout", "stop", "ranker", code=3)
    assert "0 of its 2 workers" in stopped.stderr
    assert "stop the gateway" in stopped.stderr


@pytest.fixture
def begun(shop):
    """A shop with a team and a few events, that does not run; its key's id."""
    (shop.root / "clicks.csv").write_text("user_id,item_id,when\n7,1,2026-03-01T00:00:00Z\n")
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    shop.run("team", "add", "growth", "--can", "user_profile", "--quota", "5/s")
    return shop


@pytest.mark.parametrize("how", ["lost", "emptied", "damaged"])
def test_nothing_starts_where_it_should_be_and_is_not(begun, how):
    database, *rest = files(begun)
    for file in rest:
        file.unlink()
    if how == "lost":
        database.unlink()
    else:
        database.write_bytes(b"" if how == "emptied" else b"no database" * 1_000)
    code, says = (1, "not a sound database") if how == "damaged" else (2, "feilun recover")
    for command in (["up"], ["serve", "gateway"], ["serve", "flywheel"], ["team", "list"]):
        assert says in begun.run(*command, code=code).stderr
    assert database.exists() == (how != "lost")


def test_the_first_command_makes_it_before_the_log(shop):
    (shop.root / "clicks.csv").write_text("user_id,item_id,when\n7,1,2026-03-01T00:00:00Z\n")
    shop.run("status", code=3)
    assert files(shop) == []
    shop.run("import", shop.root / "clicks.csv", "--event", "click", "--time", "when")
    assert shop.json("team", "list")["teams"] == []


def test_a_new_one_begins_only_where_it_is_lost_and_only_when_told(begun):
    assert "is there" in begun.run("recover", code=2).stderr
    for file in files(begun):
        file.unlink()
    said = begun.run("recover").stdout
    assert "no team" in said
    assert "feilun team add" in said
    assert begun.json("team", "list")["teams"] == []
    (entry,) = begun.json("audit")["audit"]
    assert (entry["action"], entry["subject"]) == ("recover", "platform.db")
    assert "is there" in begun.run("recover", code=2).stderr


def test_none_begins_while_the_platform_runs(running):
    assert "runs already" in running.run("recover", code=3).stderr
