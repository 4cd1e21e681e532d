"""Examples are what was served and what came of it, whenever and however often they are read."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import MINUTE
from feilun.models import example_log
from feilun.models.example_log import ExampleLog
from feilun.records.record import LATE
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START

sys.path.insert(0, str(Path(__file__).parents[1] / "flywheel"))
import flywheel_world as world

ROWS = [[0.5, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


def read(log, cut=None, model=None, project=None):
    spec = model or world.model()
    reader = ExampleLog(project or world.project(spec), spec)
    reader.advance(log, log.end() if cut is None else cut)
    return reader.examples(log)


def tick(log, minutes):
    """Let the log's clock pass: an event of nobody that matters."""
    log.append([world.click(f"tick{minutes}", START + minutes * MINUTE, 999, 999)])


@pytest.fixture
def log():
    log = MemoryLog()
    log.append(
        [
            world.prediction(0, START, 7, ROWS, answer=[3, 1], version=4,
                             scores=np.arange(5.0).tobytes()),
            world.click("before", START - 1, 7, 0),
            world.click("at", START, 7, 1),
            world.click("other", START + 1, 8, 2),
            world.click("last", START + world.WITHIN - 1, 7, 3),
            world.click("again", START + 5, 7, 3),
            world.click("end", START + world.WITHIN, 7, 4),
        ]
    )  # fmt: skip
    return log


def test_outcomes_are_those_of_the_window(log):
    found = read(log)
    assert found.y.tolist() == [0, 1, 0, 1, 0]
    assert read(log, model=world.model(label=counted())).y.tolist() == [0, 1, 0, 2, 0]


def counted():
    return world.OutcomeSpec("click", world.WITHIN, "count")


def test_what_was_served_is_kept(log):
    found = read(log)
    assert found.x.tolist() == ROWS
    assert found.served.tolist() == [0, 1, 2, 3, 4]
    assert found.place.tolist() == [-1, 1, -1, 0, -1]
    assert (found.version.tolist(), found.offset.tolist()) == ([4], [0])
    assert found.features == ("user_item:clicks_1d", "user_item:clicks_2d")
    assert len(set(found.cluster)) == 1


def test_what_is_not_ripe_is_not_negative(log):
    # One record short of the end of the window nothing is said, though clicks have come.
    assert len(read(log, cut=6)) == 0
    assert len(read(log, cut=7)) == 1


def test_late_outcomes_do_not_count(log):
    log.append([world.click("late", START + 1, 7, 2, flags=LATE)])
    assert read(log).y.tolist() == [0, 1, 0, 1, 0]


def test_other_models_requests_are_not_read(log):
    log.append([world.prediction(1, START, 7, ROWS, model="other")])
    tick(log, 60)
    assert len(read(log)) == 1


def test_vectors_of_another_shape_are_left_out_and_counted(log):
    log.append([world.prediction(1, START + 1, 7, [[1, 2]])])
    tick(log, 60)
    found = read(log)
    assert (len(found), found.left_out) == (1, 1)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.integers(1, 60), max_size=12), limit=st.integers(5, 60))
def test_reading_in_steps_gives_what_reading_at_once_gives(steps, limit):
    whole = world.shop_log(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example_log, "MAX_REQUESTS", limit)
        patch.setattr(example_log, "BATCH", 7)
        spec = world.model()
        stepwise = ExampleLog(world.project(spec), spec)
        cut = 0
        for step in steps:
            cut = min(cut + step, whole.end())
            stepwise.advance(whole, cut)
            if step % 2:
                stepwise.examples(whole)
        stepwise.advance(whole, whole.end())
        found, expected = stepwise.examples(whole), read(whole)
        assert found.digest() == expected.digest()
        assert len(found) <= limit
        # And back again: an earlier cut is read anew.
        stepwise.advance(whole, cut)
        assert stepwise.examples(whole).digest() == read(whole, cut).digest()


def test_only_the_newest_rows_are_kept(monkeypatch):
    monkeypatch.setattr(example_log, "MAX_ROWS", 23)
    found = read(world.shop_log(60))
    assert len(found) == 4
    assert len(found.y) == 20


def test_what_comes_after_the_cut_changes_nothing():
    log = world.shop_log(60)
    cut = log.end() // 2
    before = read(log, cut)
    other = MemoryLog()
    other.append([record for _, record in log.read(0, cut)])
    other.append([world.click("future", START, 1, 1)])
    assert read(other, cut).digest() == before.digest()


def test_text_categories_keep_their_codes_as_the_log_grows():
    import dataclasses

    from feilun.definitions.specs import EventSpec, FieldSpec, FoldSpec
    from feilun.testing.records import make_record

    view = EventSpec("view", 1, (FieldSpec("user_id", "int"), FieldSpec("page", "str")), None)
    fold = FoldSpec("last", "view", "page", "str", (world.USER,), 0, "UTC")
    page = dataclasses.replace(
        world.FEATURES[0], view="user", name="page", fold=fold, dtype="str", default="home"
    )
    spec = world.model(columns=(page, world.FEATURES[0]))
    project = dataclasses.replace(world.project(spec), events={"click": world.CLICK, "view": view})
    log = MemoryLog()
    for number, name in enumerate(["b", "a", "b", "c"]):
        log.append([make_record(f"v{number}", 1, name, time=START, schema=view.schema_id)])
    reader = ExampleLog(project, spec)
    reader.advance(log, 2)
    assert reader.categories == {"user:page": ("home", "b", "a")}
    reader.advance(log, 4)
    assert reader.categories == {"user:page": ("home", "b", "a", "c")}


def test_what_was_asked_gets_codes_and_is_computed_again():
    from feilun.definitions.specs import ExpressionSpec, RequestSpec

    hour, device = RequestSpec("hour", "int", "Asia/Shanghai"), RequestSpec("device", "str")
    double = ExpressionSpec("*", hour, 2.0)
    spec = world.model(columns=(world.FEATURES[0], device, double))
    log = MemoryLog()
    for number, asked in enumerate([{"device": "web"}, {}, {"device": "app"}, {"device": 3}]):
        moment = START + number * 60 * MINUTE
        log.append([world.prediction(number, moment, 7, ROWS, items=5, request=asked)])
    tick(log, 600)
    reader = ExampleLog(world.project(spec), spec)
    reader.advance(log, 1)
    assert reader.categories == {"request:device": ("web",)}
    reader.advance(log, log.end())
    assert reader.categories == {"request:device": ("web", "app")}
    found = reader.examples(log)
    assert found.features == ("user_item:clicks_1d", "request:device", "(request:hour * 2.0)")
    devices, hours = found.x[::5, 1], found.x[::5, 2]
    np.testing.assert_array_equal(devices, np.array([0, np.nan, 1, np.nan], np.float32))
    start = (START // 3_600_000_000 + 8) % 24
    assert hours.tolist() == [2.0 * ((start + n) % 24) for n in range(4)]
    assert (found.x.reshape(4, 5, 3)[:, :1, 1:] == found.x.reshape(4, 5, 3)[:, :, 1:])[0].all()
