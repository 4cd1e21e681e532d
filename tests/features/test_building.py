"""Definitions change while events stream in and reads go on: no read ever sees half a feature."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
from feilun.clock import HOUR
from feilun.features import engine as engine_module
from feilun.features.built import KEY, decode_built
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.testing.fakes import MemoryLog, MemoryStore

KEYS = {"user": 1, "item": 2}


def pool(shop):
    short = shop.feature("hours", "count", "user", window=2 * HOUR)
    return (
        shop.feature("count", "count", "user"),
        shop.feature("spent", "sum", "user", of="item"),
        shop.feature("last", "last", "user", of="item", n=3),
        short,
        shop.longer(short, 30 * HOUR),
        shop.feature("of_item", "count", "item"),
        shop.feature("popular", "top", of="item", n=3),
    )


def see(project, features, reader, log):
    """Read everything; return how many features there are already. Each is whole, or not there."""
    with reader.snapshot() as snapshot:
        mark, unbuilt = snapshot.mark, set(snapshot.unbuilt(features))
        columns = snapshot.read(features, KEYS, None, (), mark.time + 1)
        row = snapshot.read_row(features, KEYS, mark.time + 1)
    spine = Spine(
        {name: [value] for name, value in KEYS.items()},
        np.array([mark.time + 1]),
        np.array([mark.offset]),
    )
    frames = event_frames(project, log.read(0, max(mark.offset, 1)))
    truth = point_in_time(project, features, spine, frames)
    for feature in features:
        address, column = feature.address, columns[feature.address]
        if address in unbuilt:
            assert not column.present[0]
            assert address in row.missing
            continue
        assert column.present[0] == truth[address].present[0], address
        if column.present[0]:
            assert column.values[0] == truth[address].values[0] == row.values[address], address
    return len(features) - len(unbuilt)


def blobs(store):
    return {key[:8] for key in store._values if key != KEY}


def families(project, store):
    with store.snapshot() as snapshot:
        built = decode_built(snapshot.get(KEY), project)
    assert built.dropped == ()
    assert all(holding.offset is None for holding in built.holdings)
    return {holding.family.id for holding in built.holdings}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 4)
    monkeypatch.setattr(engine_module, "_DISCARD", 2)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_reads_between_any_steps_see_whole_features_alone(shop, data):
    shop = type(shop)()
    features = pool(shop)
    log, store = MemoryLog(), MemoryStore()
    chosen = st.lists(st.sampled_from(range(len(features))), min_size=1, max_size=4, unique=True)
    readers = []

    def change():
        some = [features[at] for at in data.draw(chosen)]
        project = shop.project(*some)
        readers.append((project, some, OnlineReader(project, store)))
        return Engine(project, log, store)

    def happen(count):
        times = data.draw(
            st.lists(st.integers(0, 40 * HOUR), min_size=count, max_size=count), label="times"
        )
        log.append(
            [shop.buy(1 + at % 2, at % 4, time=shop.start + t) for at, t in enumerate(times)]
        )

    happen(data.draw(st.integers(0, 12)))
    engine = change()
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["happen", "fold", "fold", "change"])):
            case "happen":
                happen(data.draw(st.integers(1, 6)))
            case "fold":
                engine.run_once(data.draw(st.integers(1, 5)))
            case "change":
                engine = change()
        for reader in readers[-2:]:  # the gateway of the definitions before still answers
            see(*reader, log)
    while engine.run_once(5):
        see(*readers[-1], log)
    project, some, reader = readers[-1]
    assert see(project, some, reader, log) == len(some)
    assert blobs(store) <= families(project, store)


def run_to_end(engine):
    while engine.run_once(3):
        pass


def test_blobs_of_what_nobody_reads_any_more_are_given_up(shop):
    count, of_item = (
        shop.feature("count", "count", "user"),
        shop.feature("of_item", "count", "item"),
    )
    log, store = MemoryLog(), MemoryStore()
    log.append([shop.buy(n, n) for n in range(9)])
    run_to_end(Engine(shop.project(count, of_item), log, store))
    both = blobs(store)
    run_to_end(Engine(shop.project(count), log, store))
    assert len(both) == 2
    assert blobs(store) == families(shop.project(count), store) < both


def test_a_family_that_comes_back_waits_until_its_old_blobs_are_gone(shop):
    """The old ones lack what happened meanwhile, and have the same names."""
    count, of_item = (
        shop.feature("count", "count", "user"),
        shop.feature("of_item", "count", "item"),
    )
    log, store = MemoryLog(), MemoryStore()
    log.append([shop.buy(1, n % 7) for n in range(20)])
    run_to_end(Engine(shop.project(count, of_item), log, store))
    log.append([shop.buy(1, 2)])
    engine = Engine(shop.project(count), log, store)
    engine.run_once(1)  # dropped now, and most of it not yet discarded
    log.append([shop.buy(1, 2)])
    project = shop.project(count, of_item)
    reader, engine = OnlineReader(project, store), Engine(project, log, store)
    built = set()
    while engine.run_once(1):
        built.add(see(project, [count, of_item], reader, log))
    assert built == {1, 2}
    assert see(project, [count, of_item], reader, log) == 2


def test_several_changes_in_a_row_before_any_is_built(shop):
    features = pool(shop)
    log, store = MemoryLog(), MemoryStore()
    log.append([shop.buy(1 + n % 2, n % 4) for n in range(30)])
    run_to_end(Engine(shop.project(features[0]), log, store))
    for at in range(1, len(features)):
        project = shop.project(features[0], features[at])
        engine = Engine(project, log, store)
        engine.run_once(1)
        log.append([shop.buy(1, 2)])
        engine.run_once(1)
        see(project, [features[0], features[at]], OnlineReader(project, store), log)
    project = shop.project(*features)
    run_to_end(Engine(project, log, store))
    assert see(project, features, OnlineReader(project, store), log) == len(features)
    assert blobs(store) <= families(project, store)


def test_events_reads_and_changes_at_once(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 100)
    features = pool(shop)
    log, store = LmdbEventLog(tmp_path / "log"), LmdbOnlineStore(tmp_path / "tiles")
    log.append([shop.buy(1 + n % 3, n % 5) for n in range(300)])
    projects = [shop.project(features[0], *features[at : at + 3]) for at in range(1, 5)]
    done, seen, failed = threading.Event(), [], []

    def guarded(work):
        def run():
            try:
                work()
            except BaseException as error:
                failed.append(error)
                raise

        return threading.Thread(target=run)

    def stream():
        for _ in range(40):
            log.append([shop.buy(1 + n % 3, n % 5) for n in range(20)])

    def fold():
        for project in projects:
            engine = Engine(project, log, store)
            for _ in range(6):
                engine.run_once(50)
        while engine.run_once(200):
            pass
        done.set()

    def look():
        readers = [OnlineReader(project, store) for project in projects]
        while not done.is_set() and not failed:
            for project, reader in zip(projects, readers, strict=True):
                wanted = project.views["view"].features
                seen.append(see(project, wanted, reader, log))

    threads = [guarded(work) for work in (stream, fold, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    run_to_end(Engine(projects[-1], log, store))
    wanted = projects[-1].views["view"].features
    assert see(projects[-1], wanted, OnlineReader(projects[-1], store), log) == len(wanted)
    assert len(set(seen)) > 1  # it looked while something was being built
    log.close()
    store.close()


def test_killed_while_it_builds_it_goes_on_where_it_stood(tmp_path):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("build_kill_rounds.py"), tmp_path],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills, building = map(int, re.findall(r"\d+", done.stdout))
    assert kills >= 15
    assert building >= 3
