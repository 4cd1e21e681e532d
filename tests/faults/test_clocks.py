"""A machine's clock that is wrong, steps back or jumps ahead."""

from __future__ import annotations

import sys

import msgspec
import pytest

import feilun as fl
from feilun.clock import DAY, HOUR, MINUTE, ManualClock
from feilun.definitions.compiler import compile_project
from feilun.events.collector import Collector
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.serving.http.parameters import ReadOptions
from feilun.serving.snapshots.freshness import Freshness
from feilun.serving.snapshots.moment import Moments
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.records import START

user = fl.Entity("user_id", int)


class Click(fl.Event):
    user_id: fl.Field[int]


class Profile(fl.FeatureView, entity=user):
    clicks = fl.count(Click)
    clicks_1h = fl.count(Click, window="1h")


class Machine:
    """A collector, an engine and reads under one clock."""

    def __init__(self) -> None:
        self.project = compile_project(sys.modules[__name__])
        self.clock = ManualClock(START)
        self.log, self.store = MemoryLog(), MemoryStore()
        self.collector = Collector(self.project, self.log, self.clock)
        self.engine = Engine(self.project, self.log, self.store)
        self.reader = OnlineReader(self.project, self.store)
        self.moments = Moments(self.store, self.clock, "wall", Freshness(self.log, self.store))
        self.sent = 0

    def click(self) -> str:
        self.sent += 1
        event = {
            "event": "click", "id": str(self.sent), "time": self.clock.now(),
            "fields": {"user_id": 1},
        }  # fmt: skip
        (answer,) = self.collector.accept("web", msgspec.json.encode([event]))
        self.engine.run_once()
        return answer.status

    def read(self) -> tuple[int, int, list[str]]:
        features = self.project.views["profile"].features
        with self.reader.snapshot() as snapshot:
            as_of = self.moments.as_of(snapshot.mark, ReadOptions())
            row = snapshot.read_row(features, {"user_id": 1}, as_of)
        return (*row.values.values(), self.moments.doubts(as_of))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_clock_set_back_changes_no_value(machine):
    assert machine.click() == "accepted"
    machine.clock.set(START - 30 * MINUTE)
    assert machine.click() == "accepted"
    assert machine.read() == (2, 2, ["clock"])  # and the answer says what it stands on
    assert [record.time for _, record in machine.log.read(0)] == [START, START - 30 * MINUTE]
    machine.clock.set(START + MINUTE)
    assert machine.click() == "accepted"
    assert machine.read() == (3, 3, [])


def test_a_step_of_seconds_is_no_reason_to_doubt(machine):
    machine.click()
    machine.clock.set(START - MINUTE // 2)
    assert machine.read() == (1, 1, [])


def test_a_clock_that_jumped_ahead_for_a_moment_is_told_with_every_answer(machine):
    """Windows then end at the newest record: what they leave out is not said to be counted."""
    machine.click()
    machine.clock.set(START + 3_000 * DAY)
    machine.click()
    machine.clock.set(START + HOUR // 2)
    assert machine.click() == "late"  # its day is closed; kept, and said to be late
    machine.clock.set(START + DAY)
    assert machine.click() == "accepted"  # the days to come are not
    assert machine.read() == (3, 1, ["clock"])
