"""Bad events for people: a conflict says which fields differ."""

import msgspec
import pytest

from feilun.clock import ManualClock
from feilun.events.bad_events import decoded, difference
from feilun.events.collector import Collector
from feilun.events.declaring import declare
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def collector(project, log):
    return Collector(project, log, ManualClock(START))


def send(collector, *events):
    collector.accept("web", msgspec.json.encode(list(events)))


def visit(city, **changes):
    return {
        "event": "order_line",
        "id": "1",
        "fields": {"user_id": 7, "item_id": 42, "city": city},
    } | changes


def test_a_conflict_is_told_by_the_fields_that_differ(project, collector, log):
    declare(log, list(project.events.values()))
    send(collector, visit("北京"))
    send(collector, visit("上海"))
    (bad,) = log.bad()
    found = decoded(bad, log.schemas())
    assert (found["event"], found["id"]) == ("order_line", "1")
    assert found["fields"]["city"] == "上海"
    assert difference(bad, log) == {"fields.city": ("北京", "上海")}


def test_a_conflict_of_another_event_or_time_says_so(project, collector, log):
    declare(log, list(project.events.values()))
    send(collector, visit("北京", time=START - 1_000_000))
    send(collector, visit("北京", time=START - 2_000_000))
    (bad,) = log.bad()
    (names,) = difference(bad, log)
    assert names == "time"


def test_what_is_no_record_or_has_no_schema_is_left_as_it_is(project, collector, log):
    send(collector, visit(5))
    (bad,) = log.bad()
    assert decoded(bad, log.schemas()) is None
    assert difference(bad, log) == {}
    send(collector, visit("北京"), visit("上海"))
    assert decoded(log.bad()[1], {}) is None
