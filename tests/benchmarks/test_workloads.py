"""Each benchmark gives right answers at a tiny size. No time is asserted."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks import (
    backfill,
    collector,
    freshness,
    online,
    stream_fold,
    training_set,
    windows,
    workers,
)
from benchmarks.data import DAY, HOUR, START, Shape, load, save
from benchmarks.harness import WrongAnswer
from benchmarks.ours import project_of
from benchmarks.platform import running

SMALL = Shape(events=3_000, users=40, items=20, span=3 * DAY)


def test_events_are_the_same_every_time_and_in_order(monkeypatch, tmp_path):
    whole = SMALL.all()
    assert len(whole["time"]) == 3_000
    assert (np.diff(whole["time"]) >= 0).all()
    assert whole["time"][0] >= START
    assert whole["time"][-1] < START + SMALL.span
    assert set(np.unique(whole["user_id"])) == set(range(40))
    again = load(save(SMALL.all(), tmp_path / "events"))
    assert all((again[name] == whole[name]).all() for name in whole)
    monkeypatch.setattr("benchmarks.data.CHUNK", 1_000)
    assert [len(chunk["time"]) for chunk in SMALL.chunks()] == [1_000] * 3


def test_the_peers_windows_are_those_of_the_project():
    project = project_of("stream")
    defined = [
        {
            "keys": [key.name for key in feature.fold.keys],
            "hop": feature.fold.hop,
            "length": feature.window,
            "value": feature.fold.kind,
        }
        for view in project.views.values()
        for feature in view.features
    ]
    assert defined == stream_fold.WINDOWS


def test_the_windows_written_by_hand_are_those_of_the_project():
    (view,) = project_of("training").views.values()
    defined = {f.name: (f.window, f.fold.hop) for f in view.features}
    assert defined == {
        f"{statistic}_{name}": window
        for name, window in windows.WINDOWS.items()
        for statistic in windows.STATISTICS
    }


def test_ten_features_are_read_online(here, tmp_path):
    store = online.build(here, tmp_path, SMALL, "online")
    as_of = START + SMALL.span
    keys = [{"user_id": user} for user in range(SMALL.users)]
    found = here.call("online_values", folder=store, view=online.VIEW, keys=keys, as_of=as_of)
    online.check_values(found, SMALL.all(), as_of)
    found[7]["most_30d"] += 1
    with pytest.raises(WrongAnswer, match="most_30d"):
        online.check_values(found, SMALL.all(), as_of)
    for keys in ([[3]], [[3, 4, 5]]):
        times = here.call(
            "online_latency",
            folder=store,
            view=online.VIEW,
            item="user_id",
            requests=keys,
            as_of=as_of,
        )
        assert 0 < times["p50"] <= times["p99"]


@pytest.mark.parametrize("longest", [None, 0.01])
def test_the_log_is_folded_to_the_right_tiles(here, tmp_path, longest):
    events = SMALL.all()
    data = save(events, tmp_path / "events")
    log = here.call("fill_log", project="stream", data=data, events=SMALL.events)
    stream_fold.check_ours(here, log, events, catch_up=500, sample=20)
    spent = here.call("fold_log", project="stream", log=log, limit=500, longest=longest)
    assert spent["commits"] >= 3
    assert spent["commit_p50"] <= spent["commit_p99"]


def test_a_wrong_tile_is_noticed(here, tmp_path):
    events = SMALL.all()
    data = save(events, tmp_path / "events")
    log = here.call("fill_log", project="stream", data=data, events=SMALL.events)
    with pytest.raises(WrongAnswer):
        stream_fold.check_ours(here, log, {**events, "amount": events["amount"] + 1})


def test_the_peers_are_checked_against_plain_grouping():
    events = {
        "time": np.array([0, HOUR - 1, HOUR]) + START,
        "user_id": np.array([1, 1, 1]),
        "amount": np.array([5, 6, 7]),
    }
    window = {"keys": ["user_id"], "hop": HOUR, "length": DAY, "value": "sum"}
    assert stream_fold._groups(events, window) == [[1, START, 11], [1, START + HOUR, 7]]
    window["value"] = "count"
    assert stream_fold._groups(events, window) == [[1, START, 2], [1, START + HOUR, 1]]


def test_a_training_set_is_right_and_a_changed_value_is_noticed(here, tmp_path):
    shape = replace(SMALL, span=60 * DAY)
    data, asked = training_set.make(tmp_path, shape, 200)
    assert here.call("training_frame", data=data) == shape.events
    out = training_set._made(tmp_path / "out")
    here.call("training_set", project="training", data=data, spine=asked, out=out)
    found = load(out)
    training_set.check_values("feilun", found, load(data), load(asked))
    training_set.compare("copy", {name: values[:50] for name, values in found.items()}, found)
    wrong = {**found, "max_7d": found["max_7d"] + 1}
    with pytest.raises(WrongAnswer):
        training_set.check_values("feilun", wrong, load(data), load(asked))
    with pytest.raises(WrongAnswer):
        training_set.compare("copy", wrong, found)


@pytest.fixture
def work(here, tmp_path, monkeypatch):
    """A small training set, with our own answers; every fourth user is for Feast."""
    monkeypatch.setattr(training_set, "EVERY", 4)
    monkeypatch.setattr(training_set, "READY_ROWS", 120)
    data, asked = training_set.make(tmp_path, replace(SMALL, span=60 * DAY), 200)
    here.call("training_frame", data=data)
    out = training_set._made(tmp_path / "out")
    compute = partial(here.call, "training_set", project="training", data=data)
    compute(spine=asked, out=out)
    return training_set.Work(tmp_path, data, asked, out, compute)


def test_feasts_table_has_what_each_event_made_of_its_user(work):
    table, asked = map(load, training_set.written(work))
    events, spine = load(work.data), load(work.spine)
    assert set(asked["user_id"]) == {user for user in spine["user_id"] if user % 4 == 2}
    assert len(table["time"]) == (events["user_id"] % 4 == 2).sum()
    names = table.keys() - {"user_id", "time"}
    moments = {"user_id": table["user_id"], "as_of": table["time"]}
    values = {name: table[name] for name in names}
    training_set.check_values("written", values, events, moments)
    last = [
        np.flatnonzero((table["user_id"] == user) & (table["time"] <= as_of))[-1]
        for user, as_of in zip(asked["user_id"], asked["as_of"], strict=True)
    ]
    found = {name: table[name][last] for name in names}
    training_set.check_written("feast", found, table, asked)
    with pytest.raises(WrongAnswer, match="max_7d"):
        wrong = {**found, "max_7d": found["max_7d"] + 1}
        training_set.check_written("feast", wrong, table, asked)


def test_values_that_are_ready_are_our_answers(work):
    table, asked = map(load, training_set.ready(work))
    spine = load(work.spine)
    first = {name: column[:120].tolist() for name, column in spine.items()}
    assert len(asked["as_of"]) == len(set(zip(*first.values(), strict=True)))
    assert (table["time"] == asked["as_of"]).all()
    events = load(work.data)
    values = {name: table[name] for name in load(work.answers)}
    training_set.check_values("ready", values, events, asked)


def test_a_backfill_in_chunks_is_right(here, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.data.CHUNK", 1_000)
    spent = backfill.backfill(here, tmp_path, SMALL)
    assert spent["memory"] > 0


@pytest.mark.xdist_group("up")
def test_the_collector_takes_every_event_and_the_limit_stores_the_same(results, monkeypatch):
    monkeypatch.setattr(collector, "CONNECTIONS", 2)
    monkeypatch.setattr(collector, "BODY", 100)
    with (
        workers.ours("benchmarks.load") as load_worker,
        workers.ours("benchmarks.limits") as limits,
    ):
        found = collector.one(load_worker, limits, results, events=1_000, number=0)
    assert found["ours"] > 0
    assert found["limit"] > 0
    assert 1 <= found["group"] <= 1_000


@pytest.mark.xdist_group("up")
def test_what_was_acknowledged_becomes_readable_and_counts_once(results):
    with (
        workers.ours("benchmarks.load") as load_worker,
        running(results, "stream", "up", "--quiet") as platform,
    ):
        found = freshness.measure(load_worker, platform, replace(SMALL, events=1_000), 2_000)
    assert found["events"] == 1_000
    assert 0 < found["p50"] <= found["p99"]


def test_a_window_begins_at_a_whole_hop_and_leaves_out_its_end():
    times = np.array([START, START + 1, START + 65 * 60_000_000, START + 70 * 60_000_000])
    events = {"time": times, "amount": np.array([1, 2, 4, 8])}
    as_of = START + 70 * 60_000_000
    assert windows.value(events, "sum", "1h", as_of) == 4  # from minute 10, floored, on
    assert windows.value(events, "sum", "1d", as_of) == 7
    assert windows.value(events, "mean", "1h", START) is None
