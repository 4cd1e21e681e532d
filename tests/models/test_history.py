"""Vectors of the past equal the naive oracle; made-up requests never look ahead."""

import dataclasses
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feilun.aggregation.keys import encode_key
from feilun.aggregation.oracle import naive
from feilun.clock import DAY, HOUR, MINUTE
from feilun.definitions.specs import FeatureSpec, FoldSpec, ModelSpec, OutcomeSpec, RequestSpec
from feilun.errors import ModelError
from feilun.features.frames import event_frames
from feilun.models.example_log import ExampleLog
from feilun.models.history import history_examples
from feilun.records.codec import decode_prediction
from feilun.records.record import IMPORTED
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START

sys.path.insert(0, str(Path(__file__).parents[1] / "flywheel"))
import flywheel_world as world

RECENT = FeatureSpec(
    "user", "recent", FoldSpec("last", "click", "item_id", "int", (world.USER,), 0, "UTC", n=5),
    None, 0, "int", True, 5, None, None,
)  # fmt: skip
SOLD = FeatureSpec(
    "item", "clicks_1d", FoldSpec("count", "click", None, "int", (world.ITEM,), HOUR, "UTC"),
    DAY, 0, "int", False, 1, None, None,
)  # fmt: skip
DEMAND = ModelSpec(
    "ranker", (SOLD,), OutcomeSpec("click", DAY, "count"), "wape", lambda data: None, "c0de"
)


def project(spec, candidates):
    made = world.project(spec)
    capability = dataclasses.replace(made.capabilities["recommend"], candidates=candidates)
    return dataclasses.replace(made, capabilities={"recommend": capability})


def imported(clicks, delay=0):
    """Return a log of imported (time, user, item) clicks, each known ``delay`` later."""
    log = MemoryLog()
    for number, (time, user, item) in enumerate(clicks):
        record = world.click(
            f"c{number}", time, user, item, flags=IMPORTED, received=START + 900 * DAY
        )
        log.append([msgspec.structs.replace(record, available=time + delay)])
    return log


def random_clicks(days=5, count=150, seed=0):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(START, START + days * DAY, count) // HOUR * HOUR)
    return [(int(t), int(rng.integers(4)), int(rng.integers(6))) for t in times]


def test_vectors_of_another_definition_are_computed_again():
    log = MemoryLog()
    for number, (time, user, item) in enumerate(random_clicks()):
        log.append([world.click(f"c{number}", time, user, item)])
        if number % 40 == 39:
            folded = log.end() - 3
            log.append(
                [world.prediction(number, time + MINUTE, user, [[0, 0]] * world.ITEMS,
                                  columns="another", folded_offset=folded)]
            )  # fmt: skip
    log.append([world.click("end", START + 9 * DAY, 9, 9)])
    spec = world.model()
    reader = ExampleLog(world.project(spec), spec)
    reader.advance(log, log.end())
    found = reader.examples(log)
    assert (len(found), found.left_out) == (3, 0)
    frame = event_frames(world.project(spec), log.read(0))["click"]
    row = 0
    for offset, record in log.read(0):
        if not record.schema.startswith("feilun"):
            continue
        body = decode_prediction(record.body)
        for item in body.items:
            key = encode_key((world.USER, world.ITEM), (body.keys["user_id"], item))
            for place, feature in enumerate(world.FEATURES):
                expected = naive(feature, frame, key, body.as_of, body.folded_offset)
                assert found.x[row, place] == expected, offset
            row += 1
    assert found.x.max() > 1
    assert reader.examples(log).digest() == found.digest()  # the second time from memory


def test_what_cannot_be_computed_again_is_left_out_and_counted():
    log = MemoryLog()
    rows = [[0, 0]] * world.ITEMS
    log.append([world.prediction(1, START, 1, rows, columns="another", keys={})])
    log.append([world.click("end", START + DAY, 9, 9)])
    spec = world.model()
    reader = ExampleLog(world.project(spec), spec)
    reader.advance(log, log.end())
    found = reader.examples(log)
    assert (len(found), found.left_out) == (0, 1)


def test_a_made_up_request_has_its_hour_and_no_parameters():
    hour, depth = RequestSpec("hour", "int", "Asia/Shanghai"), RequestSpec("depth", "float")
    spec = world.model(columns=(hour, depth, *world.FEATURES))
    found = history_examples(project(spec, (RECENT,)), spec, imported(random_clicks()), 10_000, {})
    moments = np.repeat(found.as_of, found.groups)
    np.testing.assert_array_equal(found.x[:, 0], (moments // HOUR + 8) % 24)
    assert len(set(found.x[:, 0])) > 5
    assert np.isnan(found.x[:, 1]).all()


def test_requests_are_made_up_where_outcomes_happened():
    clicks = random_clicks()
    spec = world.model()
    found = history_examples(project(spec, (RECENT,)), spec, imported(clicks), 10_000, {})
    moments = sorted({(time, user) for time, user, _ in clicks})
    frame = event_frames(world.project(spec), imported(clicks).read(0), known="available")["click"]
    row, request = 0, 0
    for time, user in moments:
        key = encode_key((world.USER,), (user,))
        candidates = list(dict.fromkeys(naive(RECENT, frame, key, time, time + 1) or []))
        if not candidates or time > clicks[-1][0] - world.WITHIN:
            continue
        assert found.as_of[request] == time
        assert found.groups[request] == len(candidates)
        for item in candidates:
            pair = encode_key((world.USER, world.ITEM), (user, item))
            expected = [naive(f, frame, pair, time, time + 1) for f in world.FEATURES]
            assert found.x[row].tolist() == expected
            happened = any(
                (u, i) == (user, item) and time <= t < time + world.WITHIN for t, u, i in clicks
            )
            assert found.y[row] == happened
            row += 1
        request += 1
    assert (request, row) == (len(found), len(found.y))
    assert len(found) > 20


def test_an_event_counts_from_when_it_became_known():
    clicks = random_clicks()
    spec = world.model()
    at_once = history_examples(project(spec, (RECENT,)), spec, imported(clicks), 10_000, {})
    later = imported(clicks, delay=30 * DAY)
    with pytest.raises(ModelError):  # nothing was known of anybody at any of these moments
        history_examples(project(spec, (RECENT,)), spec, later, 10_000, {})
    assert at_once.x.max() > 0


def test_shuffling_the_future_changes_nothing_before_it():
    clicks = random_clicks()
    middle = START + 3 * DAY
    rng = np.random.default_rng(1)
    other = [
        each if each[0] < middle else (each[0], int(rng.integers(4)), int(rng.integers(6)))
        for each in clicks
    ]
    spec = world.model()
    found = [
        history_examples(project(spec, (RECENT,)), spec, imported(log), 10_000, {})
        for log in (clicks, other)
    ]
    assert found[0].digest() != found[1].digest()
    before = [f.take(f.as_of + world.WITHIN <= middle) for f in found]
    assert len(before[0]) > 10
    assert before[0].digest() == before[1].digest()


def test_items_alone_are_asked_about_at_each_midnight():
    clicks = random_clicks()
    found = history_examples(project(DEMAND, ()), DEMAND, imported(clicks), 10_000, {})
    assert found.as_of.tolist() == [START + day * DAY for day in (1, 2, 3)]
    row = 0
    for as_of in found.as_of.tolist():
        seen = sorted({item for time, _, item in clicks if time < as_of})
        for item in seen:
            past = sum(i == item and as_of - DAY <= t < as_of for t, _, i in clicks)
            future = sum(i == item and as_of <= t < as_of + DAY for t, _, i in clicks)
            assert (found.x[row, 0], found.y[row]) == (past, future)
            row += 1
    assert row == len(found.y)
    assert len(set(found.cluster)) == 6  # an item is a cluster, on whatever day


def test_no_history_says_what_to_do():
    with pytest.raises(ModelError, match="feilun import"):
        history_examples(project(DEMAND, ()), DEMAND, MemoryLog(), 0, {})
