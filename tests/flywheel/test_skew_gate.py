"""Skew blocks promotion: what is served must be what training computes."""

import logging
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feilun.clock import MINUTE
from feilun.errors import CorruptData, Fenced
from feilun.features.frames import event_frames
from feilun.flywheel import auditor as auditing
from feilun.flywheel.auditor import Auditor
from feilun.flywheel.controller import Controller
from feilun.flywheel.gate import SKEW_REQUESTS
from feilun.flywheel.record import turn_record
from feilun.models.past_vectors import PastRequest, past_vectors
from feilun.models.skew import Meanings, audit_between
from feilun.ports.skew_store import FeatureSkew, SkewState
from feilun.records.codec import decode_prediction, encode_prediction
from feilun.records.record import PREDICTION_SCHEMA, RECOMPUTE
from feilun.testing.fakes import MemoryLog
from feilun.testing.platform_fakes import InMemoryReleases, InMemorySkew, InMemoryTurns
from feilun.testing.records import START

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world

USERS, REQUESTS = 70, 500


def honest_log(tamper=lambda number, matrix: matrix):
    """Return a log whose vectors are the ones that were true: customers come back to items."""
    rng = np.random.default_rng(1)
    log, project = MemoryLog(), world.project()
    for number in range(REQUESTS):
        as_of, user = START + number * MINUTE, int(rng.integers(USERS))
        known = log.end()
        request = PastRequest({"user_id": user}, range(world.ITEMS), as_of, known)
        mine = [p for p in log.read(0, known + 1) if p[1].subject == f"user_id={user}"]
        frames = event_frames(project, mine)
        (matrix,) = past_vectors(project, world.model(), [request], frames, {})
        vectors = tamper(number, matrix.copy())
        liked = (user + np.arange(world.ITEMS)) % world.ITEMS < 2
        clicked = np.flatnonzero(rng.random(world.ITEMS) < np.where(liked, 0.8, 0.05))
        clicks = [
            world.click(f"c{number}-{item}", as_of + 1_000 + item, user, int(item),
                        subject=f"user_id={user}")
            for item in clicked
        ]  # fmt: skip
        log.append([world.prediction(number, as_of, user, vectors, folded_offset=known), *clicks])
    return log


@pytest.fixture(scope="module")
def log():
    return honest_log()


def shop_of(folder, log, **parts):
    turns = InMemoryTurns()
    releases = InMemoryReleases(turns)
    meanings = Meanings(world.project(), releases, folder / "bundles")

    def audit(model, start, stop):
        return audit_between(log, meanings, model, start, stop, size=SKEW_REQUESTS)

    tools = {"turns": turns, "releases": releases, "audit": audit, **parts}
    return world.workshop(folder, log, **tools)


def records(shop):
    return [turn_record(shop.turns, turn) for turn in shop.turns.turns()]


def test_without_skew_a_better_model_is_promoted(tmp_path, log):
    shop = shop_of(tmp_path, log)
    Controller(shop).run_once()
    first = records(shop)[0]
    assert first["state"] == "promoted", first["reason"]
    assert first["skew"] == {
        "requests": SKEW_REQUESTS,
        "left_out": {},
        "rows": SKEW_REQUESTS * world.ITEMS,
        "mismatched": {},
        "reason": "",
    }


def test_skew_blocks_promotion_and_says_which_feature(tmp_path):
    def off_by_one(number, matrix):
        matrix[:, 1] += number % 10 == 0
        return matrix

    shop = shop_of(tmp_path, honest_log(off_by_one))
    Controller(shop).run_once()
    for record in records(shop):
        assert record["state"] == "rejected"
        assert record["reason"].startswith("skew: user_item:clicks_2d was served otherwise")
        assert "at most 0.1% may be" in record["reason"]
        assert set(record["skew"]["mismatched"]) == {"user_item:clicks_2d"}
    assert shop.releases.entries() == []


def test_skew_of_the_past_does_not_block_for_ever(tmp_path):
    """The fault is mended: the turn after the next looks at what was served since."""

    def until_mended(number, matrix):
        return matrix + (number < 200)

    shop = shop_of(tmp_path, honest_log(until_mended))
    Controller(shop).run_once()
    first, second = records(shop)
    assert first["reason"].startswith("skew: ")
    assert second["skew"]["mismatched"] == {}
    assert second["state"] == "promoted", second["reason"]


def test_the_same_log_gives_the_same_audit(tmp_path, log):
    found = []
    for name in ("one", "two"):
        shop = shop_of(tmp_path / name, log)
        Controller(shop).run_once()
        found.append([record["skew"] for record in records(shop)])
    assert found[0] == found[1]


class Seconds:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def auditor_of(log, folder, store=None):
    meanings = Meanings(world.project(), InMemoryReleases(InMemoryTurns()), folder)
    seconds = Seconds()
    store = InMemorySkew() if store is None else store
    return Auditor(log, meanings, store, seconds), store, seconds


def rounds(auditor, seconds, count=1):
    """Step until so many rounds have ended."""
    for _ in range(1_000):
        seconds.now += 1.0
        count -= auditor.step()
        if not count:
            return
    raise AssertionError("no round ends")


def prefix(log, stop):
    part = MemoryLog()
    part.append([record for _, record in log.read(0, stop)])
    return part


def test_what_is_served_is_audited_all_the_time(tmp_path, log):
    part = prefix(log, 600)
    auditor, store, seconds = auditor_of(part, tmp_path)
    rounds(auditor, seconds)
    first = store.load()
    assert first.offset == 600
    assert first.models["ranker"].requests == auditing.SAMPLE
    assert first.models["ranker"].features["user_item:clicks_1d"] == FeatureSkew(
        auditing.SAMPLE * world.ITEMS, 0
    )
    seconds.now += auditing.INTERVAL
    assert not auditor.step()
    assert store.load() == first  # nothing has happened since
    part.append([record for _, record in log.read(600)])
    seconds.now += auditing.INTERVAL
    rounds(auditor, seconds)
    second = store.load()
    assert (second.offset, second.models["ranker"].requests) == (log.end(), 2 * auditing.SAMPLE)


def test_a_round_begins_once_in_a_while_and_leaves_the_processor_alone(tmp_path, log):
    part = prefix(log, 600)
    auditor, store, seconds = auditor_of(part, tmp_path)
    load = store.load
    loaded = []

    def slow():
        seconds.now += 0.1
        loaded.append(seconds.now)
        return load()

    store.load = slow
    auditor.step()
    before = seconds.now
    assert before == pytest.approx(0.1)
    for _ in range(49):
        seconds.now += 0.1  # 2 % of the time: it waits for five seconds
        auditor.step()
    assert auditor._round._position == 600  # nothing but the first step was done
    assert auditor._round._audit is None
    seconds.now += 0.2
    auditor.step()
    assert auditor._round._audit is not None
    rounds(auditor, seconds)
    part.append([record for _, record in log.read(600)])
    auditor.step()
    assert len(loaded) == 1


def test_skew_is_counted_and_said(tmp_path, caplog):
    tampered = honest_log(lambda number, matrix: matrix + np.array([[0, number == 7]]))
    auditor, store, seconds = auditor_of(prefix(tampered, 60), tmp_path)
    with caplog.at_level(logging.WARNING):
        rounds(auditor, seconds)
    found = store.load().models["ranker"].features
    assert found["user_item:clicks_2d"].mismatched == world.ITEMS
    assert found["user_item:clicks_1d"].mismatched == 0
    assert "user_item:clicks_2d was served otherwise" in caplog.text


def test_killed_in_the_middle_of_a_round_it_counts_everything_once(tmp_path, log):
    store = InMemorySkew()
    for steps in (1, 2, 3):
        auditor, _, seconds = auditor_of(prefix(log, 100), tmp_path, store)
        for _ in range(steps - 1):
            seconds.now += 1
            auditor.step()
        assert store.load() == SkewState()
    auditor, _, seconds = auditor_of(prefix(log, 100), tmp_path, store)
    rounds(auditor, seconds)
    predictions = sum(r.schema == PREDICTION_SCHEMA for _, r in log.read(0, 100))
    assert store.load().models["ranker"].requests == predictions


def test_of_two_auditors_one_is_fenced(tmp_path, log):
    store = InMemorySkew()
    (one, _, seconds), (two, _, others) = (
        auditor_of(prefix(log, 100), tmp_path, store) for _ in range(2)
    )
    one.step()
    rounds(two, others)
    state = store.load()
    with pytest.raises(Fenced):
        rounds(one, seconds)
    assert store.load() == state


def test_a_log_that_was_put_back_is_audited_from_there_on(tmp_path, log):
    part = prefix(log, 100)
    auditor, store, seconds = auditor_of(part, tmp_path)
    store.save(SkewState(5_000), 0)
    rounds(auditor, seconds)
    assert store.load() == SkewState(100)
    part.append([record for _, record in log.read(100, 50)])
    seconds.now += auditing.INTERVAL
    rounds(auditor, seconds)
    assert 0 < store.load().models["ranker"].requests <= 50


def test_a_log_that_cannot_be_read_is_tried_again_later(tmp_path, log, monkeypatch):
    part = prefix(log, 100)
    auditor, store, seconds = auditor_of(part, tmp_path)

    def fail(*_):
        raise CorruptData("flipped")

    with monkeypatch.context() as patch:
        patch.setattr(part, "read_batches", fail)
        with pytest.raises(CorruptData):
            auditor.step()
        seconds.now += 1
        assert not auditor.step()
    seconds.now += auditing.INTERVAL
    rounds(auditor, seconds)
    assert store.load().offset == 100


def test_vectors_of_an_unbuilt_feature_are_left_out(tmp_path, log):
    """Nobody trains on them as they are: they were marked when they were logged."""
    part = MemoryLog()
    for _, record in log.read(0, 60):
        body = record.body
        if record.schema == PREDICTION_SCHEMA:
            unbuilt = msgspec.structs.replace(decode_prediction(body), columns=RECOMPUTE)
            body = encode_prediction(unbuilt)
        part.append([msgspec.structs.replace(record, body=body)])
    auditor, store, seconds = auditor_of(part, tmp_path)
    rounds(auditor, seconds)
    skew = store.load().models["ranker"]
    assert (skew.requests, skew.features) == (0, {})
    assert skew.left_out.keys() == {"unbuilt"}
