"""Versions in production: followed, swapped between requests, refused without harm."""

import asyncio
import json

import pytest

from feilun.models.bundle import ExpressionColumn, columns_of
from feilun.serving.scoring import champion, guarded_scorer


def status_of(shop, *before):
    return shop.run(*before, shop.client.get("/status"))


def recommend(shop):
    return shop.client.get("/api/recommend", {"user_id": 1})


async def until(condition, seconds=5.0):
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("It did not come to be.")


def test_a_promotion_takes_over_while_running_and_is_acknowledged(shop):
    async def session():
        await shop.app.start()
        before = await recommend(shop)
        release = shop.train((0, 0, -1))
        await until(lambda: shop.releases.serving("ranker", 0) == {"w1": release.sequence})
        after = await recommend(shop)
        await shop.app.stop()
        return before, after

    before, after = asyncio.run(session())
    assert before.json["degraded"] == ["no_model"]
    assert (after.json["version"], after.json["result"]) == (1, [1, 2, 3, 4, 5])


def test_a_rollback_serves_the_earlier_bundle_under_its_version(shop):
    first = shop.train((0, 0, -1))
    shop.train((0, 0, 1))
    shop.release("ranker", 1, first.bundle, "rollback")
    reply, status = status_of(shop, recommend(shop))
    assert (reply.json["version"], reply.json["result"]) == (1, [1, 2, 3, 4, 5])
    assert status.json["models"]["ranker"]["sequence"] == 3


def test_the_same_bundle_promoted_again_is_not_loaded_again(shop):
    first = shop.train((0, 0, -1))
    shop.champions.refresh()
    scorer = shop.champions.get("ranker").scorer
    shop.release("ranker", 1, first.bundle)
    shop.champions.refresh()
    assert shop.champions.get("ranker").release.sequence == 2
    assert shop.champions.get("ranker").scorer is scorer


@pytest.mark.parametrize("file", ["bundle.json", "model.txt"])
def test_a_corrupt_bundle_is_refused_and_the_old_one_serves(shop, file):
    shop.train((0, 0, -1))
    shop.champions.refresh()
    bad = shop.train((0, 0, 1))
    path = shop.root / bad.bundle / file
    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + b"9" + raw[-1:])
    reply, metrics, status = status_of(shop, recommend(shop), shop.client.get("/metrics"))
    assert (reply.json["version"], reply.json["result"][0], reply.json["degraded"]) == (1, 1, [])
    model = status.json["models"]["ranker"]
    assert (model["version"], model["refused"]["version"]) == (1, 2)
    assert "digest differs" in model["refused"]["reason"]
    assert 'feilun_release_refused{worker="w1",model="ranker"} 1' in metrics.body.decode()
    assert 'feilun_model_version{worker="w1",model="ranker"} 1' in metrics.body.decode()
    assert shop.releases.serving("ranker", 0) == {"w1": 1}


def test_a_mended_bundle_is_taken_up(shop, monkeypatch):
    monkeypatch.setattr(champion, "RETRY_SECONDS", 0.0)
    release = shop.train()
    path = shop.root / release.bundle / "model.txt"
    raw = path.read_bytes()
    path.write_bytes(b"")
    shop.champions.refresh()
    assert shop.champions.get("ranker") is None
    path.write_bytes(raw)
    shop.champions.refresh()
    assert shop.champions.get("ranker").release == release
    assert shop.champions.refusal("ranker") is None


@pytest.mark.parametrize(
    ("digest", "says"),
    [("../../../etc", "not a bundle's digest"), ("0" * 64, "cannot be read"), ("", "not a bundle")],
)
def test_an_unknown_bundle_is_refused(shop, digest, says):
    shop.release("ranker", 1, digest)
    reply, status = status_of(shop, recommend(shop))
    assert reply.json["degraded"] == ["no_model"]
    assert says in status.json["models"]["ranker"]["refused"]["reason"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"item": "user_id"}, "scores rows of user_id"),
        ({"model_name": "demand"}, "is of model 'demand'"),
        ({"columns": "gone"}, "does not define"),
        ({"columns": "changed"}, "another meaning of user_profile:orders"),
        ({"weights": (1, 2)}, "Another number of columns"),
        ({"fault": "raise!"}, "raised RuntimeError"),
        ({"fault": "nan!"}, "not a finite number"),
        ({"fault": "shape!"}, "one score for each"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_with_its_reason(shop, changes, says):
    import msgspec

    columns = list(columns_of(shop.project.models["ranker"], {}))
    how = changes.pop("columns", None)
    if how == "gone":
        columns[0] = msgspec.structs.replace(columns[0], address="user_profile:nothing")
    elif how == "changed":
        columns[0] = msgspec.structs.replace(columns[0], window=1)
    weights, fault = changes.pop("weights", (1, 1, 1)), changes.pop("fault", "")
    if "model_name" in changes:
        changes["model"] = changes.pop("model_name")
        release = shop.train(weights, fault, "ranker", columns=tuple(columns))
        data = json.dumps([list(weights), fault]).encode()
        from feilun.models.bundle import read_bundle, write_bundle

        bundle, _ = read_bundle(shop.root, release.bundle)
        digest = write_bundle(shop.root, msgspec.structs.replace(bundle, **changes), data)
        shop.release("ranker", 2, digest)
    else:
        shop.train(weights, fault, "ranker", columns=tuple(columns), **changes)
    _, status = status_of(shop, recommend(shop))
    assert says in status.json["models"]["ranker"]["refused"]["reason"]
    assert "secret" not in status.body.decode().replace("secret detail", "", 0) or fault == "raise!"


def test_a_model_that_hangs_while_it_is_warmed_is_refused_and_holds_nobody_up(shop, monkeypatch):
    monkeypatch.setattr(champion, "WARM_SECONDS", 0.05)
    shop.train((0, 0, 1), "hang!")
    reply, status = status_of(shop, recommend(shop))
    assert reply.json["degraded"] == ["no_model"]
    assert "warm up" in status.json["models"]["ranker"]["refused"]["reason"]


def test_a_bundle_with_other_columns_than_the_project_has_today_goes_on_serving(shop):
    """The definition has moved on; what is in production pins what it was trained on."""
    spec = shop.project.models["ranker"]
    first, *_ = columns_of(spec, {})
    columns = (ExpressionColumn("+", first, 1.0), first)
    shop.train((0, 1), columns=columns)
    reply, status = status_of(shop, recommend(shop))
    assert status.json["models"]["ranker"]["refused"] is None
    assert (reply.json["version"], reply.json["degraded"]) == (1, [])
    (logged,) = shop.predictions()
    assert logged.columns not in ("", spec.columns_digest)
    assert len(logged.vectors) == 4 * 2 * 5


def test_swaps_under_load_fail_nothing_and_mix_nothing(shop):
    """Version v ranks by weight v: the scores must be those of the version that is named."""
    digests = {v: shop.train((0, 0, v), version=v).bundle for v in range(1, 5)}

    async def session():
        await shop.app.start()
        replies, done = [], False

        async def load(user):
            while not done:
                replies.append(await shop.client.get("/api/recommend", {"user_id": user, "k": 5}))
                await asyncio.sleep(0)

        loads = [asyncio.create_task(load(user)) for user in (1, 2, 3, 1)]
        for version in (2, 1, 3, 4, 2, 1, 4):
            release = shop.release("ranker", version, digests[version])
            await until(lambda release=release: shop.releases.serving("ranker", 0)
                        == {"w1": release.sequence})  # fmt: skip
        done = True
        await asyncio.gather(*loads)
        await shop.app.stop()
        return replies

    replies = asyncio.run(session())
    assert {reply.status for reply in replies} == {200}
    assert {reply.json["version"] for reply in replies} == {1, 2, 3, 4}
    import numpy as np

    for logged in shop.predictions():
        matrix = np.frombuffer(logged.vectors, np.float32).reshape(-1, 3)
        scores = np.frombuffer(logged.scores, np.float64)
        assert scores.tolist() == (matrix[:, 2] * float(logged.version)).tolist()
    assert len(shop.predictions()) == len(replies)


def test_a_history_that_cannot_be_read_leaves_what_serves(shop, monkeypatch):
    from feilun.errors import Unavailable

    monkeypatch.setattr(champion, "ACKNOWLEDGE_SECONDS", 0.01)
    shop.train((0, 0, -1))

    async def session():
        await shop.app.start()

        def fail(model):
            raise Unavailable("The database is locked.")

        monkeypatch.setattr(shop.releases, "current", fail)
        await asyncio.sleep(0.15)
        reply = await recommend(shop)
        monkeypatch.undo()
        release = shop.train((0, 0, 1))
        await until(lambda: shop.champions.get("ranker").release == release)
        await shop.app.stop()
        return reply

    assert asyncio.run(session()).json["version"] == 1


def test_the_workers_sign_of_life_goes_on(shop, monkeypatch):
    monkeypatch.setattr(champion, "ACKNOWLEDGE_SECONDS", 0.0)
    shop.train()
    shop.champions.refresh()
    shop.clock.advance(10)
    shop.champions.refresh()
    assert shop.releases.serving("ranker", shop.clock.now() - 1) == {"w1": 1}


def test_a_worker_that_serves_nothing_yet_says_that_it_lives(shop):
    shop.champions.refresh()
    assert shop.releases.serving("ranker", 0) == {"w1": 0}
    release = shop.train()
    shop.champions.refresh()
    assert shop.releases.serving("ranker", 0) == {"w1": release.sequence}


def test_text_columns_without_codes_are_marked_as_untrained(shop):
    import dataclasses

    spec = shop.project.models["ranker"]
    assert champion.untrained_columns(spec).digest == spec.columns_digest
    text = dataclasses.replace(spec.features[0], dtype="str")
    assert (
        champion.untrained_columns(dataclasses.replace(spec, columns=(text,))).digest
        == champion.RECOMPUTE
    )
    assert guarded_scorer.WARM_ROWS > 0
