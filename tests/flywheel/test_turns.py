"""Turns from the log to production: what they decide, and what they never do."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feilun.clock import MINUTE, ManualClock
from feilun.errors import CorruptData, Fenced, InputError, NoModel, Unavailable, UnknownName
from feilun.flywheel.controller import Controller
from feilun.flywheel.record import turn_record
from feilun.flywheel.release import rollback, tell_registry
from feilun.testing.records import START

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world


@pytest.fixture
def shop(tmp_path):
    return world.workshop(tmp_path, world.shop_log())


def records(shop):
    return [turn_record(shop.turns, turn) for turn in shop.turns.turns()]


def test_the_log_takes_two_turns(tmp_path):
    project = world.project(world.model(lambda data: world.Linear([1, 0])))
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    ended = Controller(shop).run_once()
    assert [turn.trigger for turn in ended] == ["240 outcomes"] * 2
    first, second = records(shop)
    assert first["state"] == "promoted"
    assert first["compared_with"] == "what was served"
    assert first["interval"]["low"] > 0
    assert first["challenger"]["metric"] > 0.8
    assert first["data"]["source"] == "predictions"
    assert first["champion"] == {
        "version": None,
        "bundle": None,
        "metric": first["champion"]["metric"],
    }
    assert first["effect"] is None
    # The same recipe on twice the data is no better, so what is in production stays.
    assert second["state"] == "rejected"
    assert second["compared_with"] == "version 1"
    assert second["champion"]["version"] == 1
    assert [entry.version for entry in shop.releases.entries()] == [1]
    assert shop.registry.get("ranker", "champion").version == 1
    assert shop.registry.get("ranker", "challenger").version == 2
    for record in (first, second):
        json.dumps(record, allow_nan=False)
        assert set(record["seconds"]) >= {"collect", "train", "gate", "register"}


def test_nothing_happens_twice(shop):
    Controller(shop).run_once()
    before = (records(shop), shop.releases.entries(), shop.registry.versions("ranker"))
    assert Controller(shop).run_once() == []
    assert (records(shop), shop.releases.entries(), shop.registry.versions("ranker")) == before
    assert shop.turns.examined("ranker") == shop.log.end()


def test_the_same_log_gives_the_same_bundles_and_decisions(tmp_path):
    found = []
    for name in ("one", "two"):
        shop = world.workshop(tmp_path / name, world.shop_log())
        Controller(shop).run_once()
        found.append(records(shop))
    assert found[0] == found[1]


def test_a_model_of_shuffled_labels_is_rejected(tmp_path):
    calls = []

    def train(data):
        calls.append(data)
        if len(calls) == 1:
            return world.least_squares(data)
        return world.least_squares(replace(data, y=np.random.default_rng(0).permutation(data.y)))

    project = world.project(world.model(train))
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    Controller(shop).run_once()
    first, second = records(shop)
    assert (first["state"], second["state"]) == ("promoted", "rejected")
    assert second["interval"]["estimate"] < 0
    assert shop.releases.current("ranker").version == 1


def test_the_holdout_was_seen_by_neither(tmp_path):
    seen = []

    def train(data):
        seen.append(data.as_of)
        return world.least_squares(data)

    project = world.project(world.model(train))
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    Controller(shop).run_once()
    for moments, record in zip(seen, records(shop), strict=True):
        start = record["data"]["holdout_from"]
        # Not even by the outcome of a request before it.
        assert max(moments) + world.WITHIN <= start
        assert record["data"]["train_requests"] == len(moments)
    first, second = records(shop)
    assert first["data"]["holdout_from"] <= second["data"]["holdout_from"]


@pytest.mark.parametrize("bad", [RuntimeError("no luck"), SystemExit(3), "a string"])
def test_a_turn_that_fails_leaves_production_and_the_loop_goes_on(tmp_path, bad):
    calls = []

    def train(data):
        calls.append(data)
        if len(calls) == 1:
            if isinstance(bad, BaseException):
                raise bad
            return bad
        return world.least_squares(data)

    project = world.project(world.model(train))
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    Controller(shop).run_once()
    first, second = records(shop)
    assert (first["state"], second["state"]) == ("failed", "promoted")
    assert (str(bad) in first["reason"]) or "str is not a Linear" in first["reason"]
    assert [entry.turn for entry in shop.releases.entries()] == [second["turn"]]


def test_scores_that_are_no_numbers_are_never_better(tmp_path):
    project = world.project(world.model(lambda data: world.Linear([np.nan, 1])), margin=100.0)
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    Controller(shop).run_once()
    assert [record["state"] for record in records(shop)] == ["rejected", "rejected"]
    assert all("not evaluable" in record["reason"] for record in records(shop))
    assert shop.releases.entries() == []


def test_too_few_customers_are_not_evaluable(tmp_path, monkeypatch):
    monkeypatch.setattr(world, "USERS", 5)
    shop = world.workshop(tmp_path, world.shop_log())
    Controller(shop).run_once()
    assert {record["state"] for record in records(shop)} == {"rejected"}
    assert all("about 5 subjects" in record["reason"] for record in records(shop))


def test_a_registry_that_is_down_promotes_nothing(shop, monkeypatch):
    def fail(*args, **options):
        raise Unavailable("The model registry failed.")

    monkeypatch.setattr(shop.registry, "register", fail)
    Controller(shop).run_once()
    assert [record["state"] for record in records(shop)] == ["failed", "failed"]
    assert shop.releases.entries() == []


def test_production_that_changed_meanwhile_is_not_overwritten(tmp_path):
    shop = None

    def train(data):
        shop.releases.append(
            "ranker", 9, "hotfix", action="promote", offset=0, at=1, turn=None, by="ann"
        )
        return world.least_squares(data)

    project = world.project(world.model(train))
    shop = world.workshop(tmp_path, world.shop_log(260), project=project)
    Controller(shop).run_once()
    (record,) = records(shop)
    assert (record["state"], record["reason"]) == (
        "rejected",
        "production has changed since the turn began",
    )
    assert shop.releases.current("ranker").bundle == "hotfix"


def test_the_effect_of_a_promotion_is_measured_by_the_turn_after(tmp_path):
    weights = iter([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    project = world.project(world.model(lambda data: world.Linear(next(weights))), margin=2.0)
    shop = world.workshop(tmp_path, world.shop_log(260), project=project)
    controller = Controller(shop)
    controller.run_once()
    append(shop, world.shop_log(520, seed=1), skip=260)
    controller.run_once()
    append(shop, world.shop_log(780, seed=2), skip=520)
    controller.run_once()
    effects = [record["effect"] for record in records(shop)]
    assert [record["state"] for record in records(shop)] == ["promoted"] * 3
    assert effects[:2] == [None, None]  # before the second there was nothing to replace
    assert effects[2]["method"] == "replayed foresight"
    assert (effects[2]["before"], effects[2]["version"]) == (1, 2)
    assert effects[2]["low"] > 0.3


def append(shop, log, skip):
    moment = START + skip * MINUTE
    shop.log.append([record for _, record in log.read(0, 10_000) if record.time >= moment])


def test_promotion_waits_for_live_workers_and_says_who_was_slow(tmp_path):
    clock = ManualClock(START)

    def pause(seconds):
        clock.advance(int(seconds * 1_000_000))
        shop.releases.acknowledge("quick", "ranker", 1, clock.now())
        shop.releases.acknowledge("slow", "ranker", 0, clock.now())

    shop = world.workshop(tmp_path, world.shop_log(260), clock=clock, pause=pause)
    shop.releases.acknowledge("quick", "ranker", 0, START)
    shop.releases.acknowledge("dead", "ranker", 0, START - 10 * MINUTE)
    Controller(shop).run_once()
    (record,) = records(shop)
    assert record["promotion"]["serving"] == ["quick"]
    assert record["promotion"]["behind"] == ["slow"]
    assert 9 < record["seconds"]["promote"] < 11


def test_a_turn_by_hand_counts_anew(tmp_path):
    shop = world.workshop(tmp_path, world.shop_log(260))
    controller = Controller(shop)
    log = world.shop_log(260)
    opened = controller.turn_by_hand("ranker")
    assert opened.cut == log.end()
    assert controller.turn_by_hand("ranker") == opened
    ended = controller.run_once()
    assert [turn.trigger for turn in ended] == ["by hand", "240 outcomes"]
    assert [turn.trigger for turn in Controller(shop).run_once()] == []


def test_a_turn_that_another_holds_is_left_alone(shop):
    turn = Controller(shop).turn_by_hand("ranker")
    shop.turns.claim(turn.id, "somebody", shop.clock.now(), MINUTE)
    assert Controller(shop).run_once() == []
    shop.clock.advance(MINUTE)
    assert turn.id in [ended.id for ended in Controller(shop).run_once()]


def test_a_controller_that_is_overtaken_stops(tmp_path):
    def train(data):
        shop.clock.advance(60 * MINUTE)
        shop.turns.claim(1, "somebody", shop.clock.now(), MINUTE)
        return world.least_squares(data)

    project = world.project(world.model(train))
    shop = world.workshop(tmp_path, world.shop_log(260), project=project)
    assert Controller(shop).run_once() == []
    assert shop.turns.get(1).state == "running"
    assert [step.name for step in shop.turns.steps(1)] == ["collect"]
    assert shop.releases.entries() == []


def test_rollback_goes_back_version_by_version(tmp_path):
    weights = iter([[0.5, 1.0], [1.0, 0.5]])
    project = world.project(world.model(lambda data: world.Linear(next(weights))), margin=2.0)
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    with pytest.raises(NoModel):
        rollback(shop, "ranker", "ann")
    Controller(shop).run_once()
    assert shop.releases.current("ranker").version == 2
    with pytest.raises(InputError):
        rollback(shop, "ranker", "ann", version=2)
    with pytest.raises(UnknownName):
        rollback(shop, "ranker", "ann", version=7)
    back = rollback(shop, "ranker", "ann")
    assert (back.version, back.action, back.by, back.turn) == (1, "rollback", "ann", None)
    assert tell_registry(shop, back) == ""
    assert shop.registry.get("ranker", "champion").version == 1
    with pytest.raises(UnknownName, match="--to"):
        rollback(shop, "ranker", "ann")
    assert rollback(shop, "ranker", "ann", version=2).version == 2
    assert [entry.version for entry in shop.releases.entries()] == [1, 2, 1, 2]


def test_rollback_to_a_damaged_bundle_changes_nothing(tmp_path):
    shop = world.workshop(tmp_path, world.shop_log(), project=world.project(margin=2.0))
    Controller(shop).run_once()
    first, second = shop.releases.entries()
    (shop.bundles / first.bundle / "model.txt").write_bytes(b"[9, 9]")
    with pytest.raises(CorruptData):
        rollback(shop, "ranker", "ann")
    assert shop.releases.current("ranker") == second


def test_a_champion_that_cannot_be_read_is_judged_by_what_it_served(tmp_path):
    shop = world.workshop(tmp_path, world.shop_log(), project=world.project(margin=0.5))
    controller = Controller(shop)
    original = shop.releases.append

    def append_and_damage(*args, **options):
        release = original(*args, **options)
        path = shop.bundles / release.bundle / "model.txt"
        if release.version == 1:
            path.write_bytes(path.read_bytes() + b" ")
        return release

    shop.releases.append = append_and_damage
    controller.run_once()
    _, second = records(shop)
    assert second["compared_with"] == "what was served"
    assert second["state"] == "promoted"


def test_fenced_is_never_swallowed(shop, monkeypatch):
    def fail(*args, **options):
        raise Fenced("taken over")

    monkeypatch.setattr(shop.releases, "append", fail)
    assert Controller(shop).run_once() == []
    assert shop.turns.get(1).state == "running"


def test_a_training_set_names_its_snapshot(tmp_path):
    """What was archived then is kept for as long as somebody asks what a model learned from."""
    names = []

    def name_snapshot(name):
        names.append(name)
        return 17

    shop = world.workshop(tmp_path, world.shop_log(), name_snapshot=name_snapshot)
    Controller(shop).run_once()
    for record in records(shop):
        assert record["challenger"]["archived"] == 17
        assert f"train/{record['challenger']['bundle'][:16]}" in names
