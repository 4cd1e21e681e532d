"""A version beside the one in production: split, shadow, stop; each answer of one version."""

import asyncio
import json

import msgspec
import numpy as np
import pytest

from feilun.flywheel.triggers import Watch
from feilun.models.bundle import columns_of
from feilun.models.example_log import ExampleLog
from feilun.models.skew import Meanings
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA, SHADOW_SCHEMA
from feilun.records.split import gets_challenger
from feilun.serving.answering import shadow
from feilun.serving.scoring import champion

SALT = "9f2c"


def ask(shop, user, id="", path="/api/recommend", **query):
    headers = [(b"x-request-id", id.encode())] if id else []
    return shop.client.get(path, {"user_id": user, **query}, headers=headers)


def logged(shop, schema=PREDICTION_SCHEMA):
    return [decode_prediction(r.body) for _, r in shop.log.read(0) if r.schema == schema]


async def until(condition, seconds=5.0):
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It did not come to be.")


def test_units_are_split_as_documented_and_stick(shop):
    shop.train((0, 0, -1))
    shop.roll_out("canary", 30, digest=shop.bundle())
    replies = shop.run(*(ask(shop, user) for user in (*range(1, 40), *range(1, 40))))
    versions = [reply.json["version"] for reply in replies]
    expected = [9 if gets_challenger(SALT, f"user_id={u}", 30) else 1 for u in range(1, 40)]
    assert versions == expected + expected
    assert {1, 9} == set(versions)
    for prediction in logged(shop):
        assert prediction.arm == ("challenger" if prediction.version == 9 else "champion")
        assert prediction.propensity == (0.3 if prediction.version == 9 else 0.7)
        assert prediction.rollout == 1


def test_without_a_rollout_the_champion_answers_for_certain(shop):
    shop.train()
    shop.run(ask(shop, 1))
    (found,) = logged(shop)
    assert (found.arm, found.propensity, found.rollout) == ("champion", 1.0, 0)


def test_without_any_version_the_fallback_is_the_arm(shop):
    shop.run(ask(shop, 1))
    (found,) = logged(shop)
    assert (found.arm, found.propensity, found.version) == ("fallback", 1.0, 0)


def test_a_rollout_may_come_before_any_release(shop):
    shop.roll_out("full", 100, digest=shop.bundle())
    reply = shop.run(ask(shop, 1))
    assert reply.json["version"] == 9


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
def test_a_challenger_that_fails_gives_way_to_the_champion(shop, fault):
    shop.train((0, 0, -1))
    shop.roll_out("full", 100, digest=shop.bundle(fault=fault))
    replies = shop.run(ask(shop, 1), ask(shop, 1, path="/api/strict"))
    for reply, prediction in zip(replies, logged(shop), strict=True):
        assert reply.status == 200
        assert (reply.json["version"], reply.json["result"]) == (1, [1, 2, 3, 4, 5])
        assert reply.json["degraded"] == ["challenger_failed"]
        assert (prediction.arm, prediction.version) == ("challenger", 1)
    failures = 'feilun_model_failures_total{worker="w1",model="ranker",version="9"} 2'
    assert failures in shop.shadows._metrics.expose()


def test_a_challenger_that_fails_without_a_champion_leaves_the_fallback(shop):
    shop.roll_out("full", 100, digest=shop.bundle(fault="nan"))
    good, bad = shop.run(ask(shop, 1), ask(shop, 1, path="/api/strict"))
    assert (good.json["version"], good.json["degraded"]) == (None, ["model_failed"])
    assert bad.status == 503


def test_a_shadow_scores_what_the_champion_answers(shop):
    shop.train((0, 0, -1))
    entry = shop.roll_out("shadow", digest=shop.bundle((0, 0, 5)))
    reply = shop.run(ask(shop, 1, "r-1"), shadows=1)
    (answered,), (shadowed,) = logged(shop), logged(shop, SHADOW_SCHEMA)
    assert (reply.json["version"], answered.version, answered.arm) == (1, 1, "champion")
    assert (shadowed.version, shadowed.arm, shadowed.propensity) == (9, "shadow", 0.0)
    assert (shadowed.request_id, shadowed.rollout) == ("r-1", entry.sequence)
    assert (shadowed.answer, shadowed.items) == ([], answered.items)
    assert (shadowed.vectors, shadowed.columns) == (answered.vectors, answered.columns)
    ours, theirs = (np.frombuffer(p.scores) for p in (answered, shadowed))
    assert theirs.tolist() == (ours * -5).tolist()
    assert shop.shadow_calls("kept") == 1


def test_a_shadow_with_columns_of_its_own_reads_them(shop):
    shop.train((0, 0, -1))
    columns = columns_of(shop.project.models["ranker"], {})[:1]
    shop.roll_out("shadow", digest=shop.bundle((2,), columns=columns))
    shop.run(ask(shop, 1), shadows=1)
    (answered,), (shadowed,) = logged(shop), logged(shop, SHADOW_SCHEMA)
    assert len(shadowed.vectors) == 4 * len(shadowed.items) == len(answered.vectors) // 3
    assert shadowed.columns != answered.columns
    assert set(np.frombuffer(shadowed.scores)) == {30.0}  # two times fifteen orders


@pytest.mark.parametrize("fault", ["raise", "nan", "shape"])
def test_a_shadow_that_fails_costs_the_request_nothing_and_is_counted(shop, fault):
    shop.train((0, 0, -1))
    shop.roll_out("shadow", digest=shop.bundle(fault=fault))
    reply = shop.run(ask(shop, 1), shadows=1)
    assert (reply.status, reply.json["degraded"]) == (200, [])
    assert shop.shadow_calls("failed") == 1
    assert logged(shop, SHADOW_SCHEMA) == []


def test_a_shadow_that_hangs_delays_nobody_and_what_it_cannot_take_is_dropped(shop, monkeypatch):
    monkeypatch.setattr(shadow, "WAITING_ROWS", 20)  # of five items each: three may wait
    shop.train((0, 0, -1))
    shop.roll_out("shadow", digest=shop.bundle(fault="hang"))

    async def run():
        await shop.app.start()
        loop = asyncio.get_running_loop()
        started = loop.time()
        replies = [await ask(shop, 1) for _ in range(20)]
        took = loop.time() - started
        await shop.app.stop()
        return replies, took

    replies, took = asyncio.run(run())
    assert {reply.status for reply in replies} == {200}
    assert took < 0.9  # one call of the shadow alone waits a second
    assert shop.shadow_calls("dropped") >= 17
    assert shop.shadow_calls() <= 20


def test_a_full_log_is_no_fault_of_the_shadow(shop, monkeypatch):
    from feilun.errors import StoreFull

    shop.train((0, 0, -1))
    shop.roll_out("shadow", digest=shop.bundle())

    async def full(prediction, digest, subject, team):
        raise StoreFull("No space.")

    monkeypatch.setattr(shop.shadows._predictions, "keep_shadow", full)
    shop.run(ask(shop, 1), shadows=1)
    assert shop.shadow_calls("lost") == 1


def test_a_retry_is_shadowed_once(shop):
    shop.train()
    shop.roll_out("shadow", digest=shop.bundle())
    shop.run(ask(shop, 1, "again"), ask(shop, 1, "again"), shadows=1)
    assert len(logged(shop, SHADOW_SCHEMA)) == len(logged(shop)) == 1


def test_a_shadow_is_erased_with_whom_it_is_about(shop):
    shop.train()
    shop.roll_out("shadow", digest=shop.bundle())
    shop.run(ask(shop, 1), shadows=1)
    assert {record.subject for _, record in shop.log.read(0)} == {"user_id=1"}


def test_a_promotion_of_the_challenger_ends_the_rollout_without_loading(shop):
    shop.train((0, 0, -1))
    entry = shop.roll_out("canary", 50, digest=shop.bundle())
    shop.champions.refresh()
    scorer = shop.champions.lineup("ranker").challenger.scorer
    release = shop.release("ranker", 9, entry.bundle)
    shop.champions.heed()
    lineup = shop.champions.lineup("ranker")
    assert (lineup.champion.release, lineup.challenger, lineup.rollout) == (release, None, None)
    assert lineup.champion.scorer is scorer
    assert shop.releases.following("ranker", 0) == {"w1": entry.sequence}


def test_a_stop_does_not_wait_for_what_is_loading(shop, monkeypatch):
    """Another version hangs while it is warmed; the challenger that does harm stops at once."""
    monkeypatch.setattr(champion, "WARM_SECONDS", 3.0)
    shop.train((0, 0, -1))
    shop.roll_out("full", 100, digest=shop.bundle())

    async def run():
        await shop.app.start()
        loop = asyncio.get_running_loop()
        shop.train((0,), "hang!", "demand")
        await asyncio.sleep(0.2)  # long enough to begin to load it
        stopped, started = shop.roll_out("off"), loop.time()
        await until(lambda: shop.releases.following("ranker", 0).get("w1") == stopped.sequence, 2)
        took = loop.time() - started
        reply = await ask(shop, 1)
        await shop.app.stop()
        return took, reply

    took, reply = asyncio.run(run())
    assert took < 1.0
    assert reply.json["version"] == 1


def test_a_challenger_waits_for_the_champion_that_it_is_compared_with(shop):
    """It may be loaded already, when the newest release is not."""
    first = shop.train((0, 0, -1))
    shop.champions.refresh()
    shop.train((0, 0, 1))
    entry = shop.roll_out("canary", 50, digest=first.bundle, version=1)
    shop.champions.heed()
    before = shop.champions.lineup("ranker")
    shop.champions.refresh()
    after = shop.champions.lineup("ranker")
    assert (before.champion.release.version, before.rollout) == (1, None)
    assert (after.champion.release.version, after.rollout) == (2, entry)


def test_a_champion_that_is_refused_holds_no_challenger_up(shop):
    shop.train((0, 0, -1))
    shop.champions.refresh()
    shop.release("ranker", 2, "0" * 64)
    entry = shop.roll_out("canary", 50, digest=shop.bundle((0, 0, 1)))
    shop.champions.refresh()
    lineup = shop.champions.lineup("ranker")
    assert (lineup.champion.release.version, lineup.rollout) == (1, entry)


def test_a_challenger_that_cannot_be_loaded_answers_nobody(shop):
    shop.train((0, 0, -1))
    digest = shop.bundle(fault="nan!")
    shop.roll_out("full", 100, digest=digest)
    reply, status = shop.run(ask(shop, 1), shop.client.get("/status"))
    assert reply.json["version"] == 1
    model = status.json["models"]["ranker"]
    assert (model["refused"], model["rollout"]) == (None, None)
    assert "not a finite number" in model["rollout_refused"]["reason"]
    assert shop.releases.following("ranker", 0) == {"w1": 0}
    (found,) = logged(shop)
    assert (found.arm, found.propensity, found.rollout) == ("champion", 1.0, 0)


def test_status_and_metrics_say_what_is_rolled_out(shop):
    shop.train((0, 0, -1))
    entry = shop.roll_out("canary", 12.5, digest=shop.bundle())
    status, metrics = shop.run(shop.client.get("/status"), shop.client.get("/metrics"))
    found = status.json["models"]["ranker"]["rollout"]
    assert found == json.loads(msgspec.json.encode(entry._asdict()))
    assert 'feilun_rollout_percent{worker="w1",model="ranker"} 12.5' in metrics.body.decode()


def test_what_is_let_go_is_not_kept_in_memory(shop):
    shop.train((0, 0, -1))
    shop.roll_out("shadow", digest=shop.bundle())
    shop.champions.refresh()
    assert len(shop.champions._loaded["ranker"]) == 2
    shop.roll_out("off")
    shop.champions.refresh()
    assert len(shop.champions._loaded["ranker"]) == 1


def test_training_and_triggers_take_answers_of_both_arms_and_no_shadow(shop):
    shop.train((0, 0, -1))
    shop.roll_out("shadow", digest=shop.bundle())

    async def later():
        await until(shop.shadow_calls)
        shop.roll_out("full", 100)
        shop.champions.heed()
        return await ask(shop, 1, "challenged")

    shop.run(ask(shop, 1, "shadowed"), later())
    assert shop.log.end() == 3
    reader = ExampleLog(shop.project, shop.project.models["ranker"])
    reader.advance(shop.log, shop.log.end())
    kept = [each.prediction.request_id for each in reader._open]
    assert kept == ["shadowed", "challenged"]
    watch = Watch(shop.project.flywheels["ranker"], shop.project.models["ranker"])
    assert watch.next_due(shop.log) is None
    assert len(watch._open) == 2


def test_what_a_challenger_answered_can_be_audited(shop):
    shop.train((0, 0, -1))
    shop.roll_out("full", 100, digest=shop.bundle())
    shop.run(ask(shop, 1))
    (found,) = logged(shop)
    meaning = Meanings(shop.project, shop.releases, shop.root).of(found)
    assert (found.version, meaning is not None) == (9, True)
