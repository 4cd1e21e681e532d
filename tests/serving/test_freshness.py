"""Features that lack what came a while ago: flagged, told, and only then."""

import asyncio

import pytest

from feilun.errors import CorruptData
from feilun.ports.online_store import Mark
from feilun.records.codec import decode_prediction
from feilun.serving.snapshots.freshness import LOOK_SECONDS, PATIENCE_SECONDS, Freshness
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import make_record


class World:
    def __init__(self):
        self.log, self.store, self.now = MemoryLog(), MemoryStore(), 0.0
        self.sent = 0

    def watch(self):
        self.freshness = Freshness(self.log, self.store, lambda: self.now)
        self.freshness.look()
        return self.freshness

    def come(self, count=1):
        self.sent += count
        self.log.append([make_record(f"{self.sent}-{n}") for n in range(count)])

    def fold(self, offset):
        with self.store.snapshot() as snapshot:
            before = snapshot.mark().offset
        self.store.commit([], before, Mark(offset, 0))

    def wait(self, seconds):
        """Let time pass with a look now and then; return what was seen."""
        seen = []
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            self.freshness.look()
            seen.append(self.freshness.stale)
        return seen


@pytest.fixture
def world():
    return World()


def test_a_record_that_waits_for_long_makes_them_stale_until_it_is_folded(world):
    world.watch()
    world.come(3)
    seen = world.wait(2 * PATIENCE_SECONDS)
    first = seen.index(True)
    assert PATIENCE_SECONDS <= (first + 1) * LOOK_SECONDS <= PATIENCE_SECONDS + 2 * LOOK_SECONDS
    assert all(seen[first:])
    assert "offset 0 of 3, and last moved 10 s ago" in world.freshness.problem()
    world.fold(2)
    assert all(world.wait(1))
    world.fold(3)
    assert not any(world.wait(10))
    assert world.freshness.problem() == ""


def test_an_engine_that_keeps_up_is_never_stale_however_much_comes(world):
    world.watch()
    for _ in range(30):
        world.come(5)
        assert world.wait(1) == [False, False]
        world.fold(world.sent - 5)  # always a little behind


def test_an_engine_that_folds_and_falls_behind_is_stale(world):
    world.watch()
    seen = []
    for turn in range(30):
        world.come(2)
        seen += world.wait(1)
        world.fold(turn + 1)
    assert seen[-1]
    assert not seen[0]
    assert "last moved 0 s ago" in world.freshness.problem()


def test_what_waits_already_at_the_start_has_waited_long_enough(world):
    world.come(2)
    assert world.watch().stale
    world.fold(2)
    assert not any(world.wait(3))


def test_a_worker_that_starts_lets_the_engine_fold_what_came_just_now(world, monkeypatch):
    world.come(2)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            world.fold(2)

    freshness = Freshness(world.log, world.store, lambda: world.now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(freshness.begin())
    assert not freshness.stale
    assert len(slept) == 3


def test_it_does_not_wait_for_an_engine_that_folds_nothing(world, monkeypatch):
    world.come(2)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    freshness = Freshness(world.log, world.store, lambda: world.now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(freshness.begin())
    assert freshness.stale
    assert 0.1 < sum(slept) < 1


def test_nobody_knows_where_the_log_cannot_be_read(world, monkeypatch):
    world.watch()

    def fail():
        raise CorruptData("A damaged page.")

    with monkeypatch.context() as patch:
        patch.setattr(world.log, "end", fail)
        assert all(world.wait(1))
        assert "A damaged page." in world.freshness.problem()
    assert not any(world.wait(1))


def test_stale_features_are_flagged_in_every_answer_and_told_of(shop):
    shop.train()
    get = shop.client.get
    shop.log.append([make_record(str(n)) for n in range(shop.history.end() + 5)])
    asked, view, ready, status, metrics = shop.run(
        get("/api/recommend", {"user_id": 1}), get("/api/trends"),
        get("/ready"), get("/status"), get("/metrics"),
    )  # fmt: skip
    assert "stale" in asked.json["degraded"]
    assert view.json["degraded"] == ["stale"]
    ((_, logged),) = shop.log.read(shop.log.end() - 1)
    assert "stale" in decode_prediction(logged.body).degraded
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert [problem[:23] for problem in status.json["problems"]] == ["The features are stale:"]
    assert '\nfeilun_features_stale{worker="w1"} 1\n' in metrics.body.decode()


def test_features_that_are_being_built_are_a_problem_that_is_told(shop):
    shop.train()
    shop.store.clear()
    shop.engine.run_once(10)
    get = shop.client.get
    view, ready, status, metrics = shop.run(
        get("/api/trends"), get("/ready"), get("/status"), get("/metrics")
    )
    assert all(flag.startswith("missing:") for flag in view.json["degraded"])
    assert view.json["degraded"]
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    (problem,) = status.json["problems"]
    assert "are missing while the engine builds them" in problem
    assert '\nfeilun_features_unbuilt{worker="w1"} 0\n' not in metrics.body.decode()
    while shop.engine.run_once():
        pass
    ready, status = shop.run(get("/ready"), get("/status"))
    assert (ready.json["status"], status.json["problems"]) == ("ready", [])
