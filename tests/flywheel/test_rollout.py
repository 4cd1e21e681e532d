"""A rollout from its start to its end: what is kept, and what is refused."""

import sys
from pathlib import Path

import pytest

from feilun.errors import Conflict, CorruptData, InputError, UnknownName
from feilun.flywheel import rollout
from feilun.flywheel.controller import Controller
from feilun.flywheel.release import rollback
from feilun.ports.releases import going_on

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world


@pytest.fixture
def shop(tmp_path):
    """Version 2 is in production, version 1 was before it."""
    weights = iter([[0.5, 1.0], [1.0, 0.5]])
    project = world.project(world.model(lambda data: world.Linear(next(weights))), margin=2.0)
    made = world.workshop(tmp_path, world.shop_log(), project=project)
    Controller(made).run_once()
    assert made.releases.current("ranker").version == 2
    return made


def move(shop, percent):
    return rollout.move(
        shop.releases, shop.log, shop.clock, model="ranker", percent=percent, by="ann"
    )


def stop(shop):
    return rollout.stop(shop.releases, shop.log, shop.clock, model="ranker", by="ann")


def test_a_rollout_goes_from_shadow_to_all_under_one_salt(shop):
    first = rollout.start(shop, "ranker", 1, 0, "ann")
    stages = [first, move(shop, 5), move(shop, 25.5), move(shop, 100), move(shop, 0), stop(shop)]
    assert [entry.stage for entry in stages] == [
        "shadow", "canary", "canary", "full", "shadow", "off"
    ]  # fmt: skip
    assert [entry.percent for entry in stages] == [0, 5, 25.5, 100, 0, 0]
    assert {(e.version, e.salt, e.release, e.by) for e in stages} == {(1, first.salt, 2, "ann")}
    assert shop.releases.rollouts() == stages
    assert shop.releases.current("ranker").version == 2


def test_the_next_rollout_has_another_salt(shop):
    salts = set()
    for _ in range(3):
        salts.add(rollout.start(shop, "ranker", 1, 5, "ann").salt)
        stop(shop)
    assert len(salts) == 3


def test_a_promotion_ends_the_rollout_as_a_rollback_does(shop):
    rollout.start(shop, "ranker", 1, 5, "ann")
    release = rollout.promote(shop, "ranker", "ann")
    assert (release.version, release.action, release.by) == (1, "promote", "ann")
    with pytest.raises(UnknownName):
        move(shop, 10)
    rollout.start(shop, "ranker", 2, 5, "ann")
    rollback(shop, "ranker", "ann", version=2)
    with pytest.raises(UnknownName):
        stop(shop)


def test_a_turn_that_promotes_ends_the_rollout(tmp_path):
    weights = iter([[0.5, 1.0], [1.0, 0.5]])
    project = world.project(world.model(lambda data: world.Linear(next(weights))), margin=2.0)
    shop = world.workshop(tmp_path, world.shop_log(), project=project)
    shop.releases.append_rollout(
        "ranker", "full", 7, "b", percent=100, salt="s", release=0, after=0, offset=0, at=1,
        by="ann",
    )  # fmt: skip
    Controller(shop).run_once()
    current = shop.releases.current("ranker")
    assert current is not None
    assert going_on(shop.releases.rollout("ranker"), current) is None


def test_what_cannot_be_rolled_out_is_refused_and_changes_nothing(shop):
    with pytest.raises(UnknownName, match="no version 9"):
        rollout.start(shop, "ranker", 9, 5, "ann")
    with pytest.raises(InputError, match="in production already"):
        rollout.start(shop, "ranker", 2, 5, "ann")
    for percent in (-1, 101, float("nan")):
        with pytest.raises(InputError, match="percentage"):
            rollout.start(shop, "ranker", 1, percent, "ann")
    for call in (stop, lambda shop: move(shop, 5), lambda s: rollout.promote(s, "ranker", "ann")):
        with pytest.raises(UnknownName):
            call(shop)
    assert shop.releases.rollouts() == []
    rollout.start(shop, "ranker", 1, 5, "ann")
    with pytest.raises(InputError, match="being rolled out"):
        rollout.start(shop, "ranker", 1, 5, "ann")
    assert len(shop.releases.rollouts()) == 1


def test_a_damaged_bundle_is_not_rolled_out(shop):
    bundle = shop.registry.get("ranker", 1).bundle
    (shop.bundles / bundle / "model.txt").write_bytes(b"[9, 9]")
    with pytest.raises(CorruptData):
        rollout.start(shop, "ranker", 1, 5, "ann")
    assert shop.releases.rollouts() == []


def test_a_stop_wins_over_a_move_that_comes_between(shop, monkeypatch):
    rollout.start(shop, "ranker", 1, 5, "ann")
    original, moved = shop.releases.append_rollout, []

    def move_first(*args, **options):
        if not moved:
            moved.append(original("ranker", "canary", *args[2:], **options | {"percent": 25.0}))
        return original(*args, **options)

    monkeypatch.setattr(shop.releases, "append_rollout", move_first)
    assert stop(shop).stage == "off"
    assert [entry.stage for entry in shop.releases.rollouts()] == ["canary", "canary", "off"]


def test_a_move_does_not_overrule_a_stop_that_comes_between(shop, monkeypatch):
    rollout.start(shop, "ranker", 1, 5, "ann")
    original = shop.releases.append_rollout

    def stop_first(*args, **options):
        original("ranker", "off", *args[2:], **options | {"percent": 0.0})
        return original(*args, **options)

    monkeypatch.setattr(shop.releases, "append_rollout", stop_first)
    with pytest.raises(Conflict):
        move(shop, 25)
    assert shop.releases.rollout("ranker").stage == "off"


def test_a_gateway_of_which_nobody_has_heard_is_waited_for(shop):
    entry = rollout.start(shop, "ranker", 1, 5, "ann")
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            shop.releases.acknowledge("w1", "ranker", 2, shop.clock.now(), rollout=entry.sequence)

    found = rollout.await_followers(shop.releases, entry, shop.clock, pause, expected=1)
    assert (found, len(pauses)) == ({"serving": ["w1"], "behind": []}, 3)
    found = rollout.await_followers(shop.releases, entry, shop.clock, pauses.append, expected=2)
    assert found == {"serving": ["w1"], "behind": []}
    assert sum(pauses[3:]) == pytest.approx(10.0)


def test_workers_that_do_not_follow_are_named(shop):
    entry = rollout.start(shop, "ranker", 1, 5, "ann")
    now = shop.clock.now()
    shop.releases.acknowledge("w1", "ranker", 2, now, rollout=entry.sequence)
    shop.releases.acknowledge("w2", "ranker", 2, now)
    pauses = []
    found = rollout.await_followers(shop.releases, entry, shop.clock, pauses.append)
    assert found == {"serving": ["w1"], "behind": ["w2"]}
    assert sum(pauses) == pytest.approx(10.0)
