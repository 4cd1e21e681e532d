"""What teams used is counted, stored every few seconds, and kept while it cannot be stored."""

import asyncio

import pytest

from feilun.clock import DAY, MINUTE, ManualClock
from feilun.errors import StoreFull
from feilun.ports.teams import Team
from feilun.serving.access import usage
from feilun.serving.access.usage import Meter
from feilun.serving.http.caller import ANYBODY, LOCAL, Caller
from feilun.serving.http.exchange import Response
from feilun.serving.metrics import Metrics
from feilun.testing.team_fakes import InMemoryTeams

CALLER = Caller("aa11", Team(1, "growth", ("recommend",), 5.0, 0))
SCORED = Response(b"{}", used=(("ranker", 3),))


@pytest.fixture
def teams():
    return InMemoryTeams()


@pytest.fixture
def clock():
    return ManualClock(20_000 * DAY)


@pytest.fixture
def metrics():
    return Metrics({"feilun_usage_total": "…"}, worker="w")


@pytest.fixture
def meter(teams, clock, metrics):
    return Meter(teams, clock, metrics)


def test_only_answers_to_teams_are_counted(meter, teams, metrics):
    for caller in (CALLER, ANYBODY, LOCAL):
        meter.answered(caller, "recommend", SCORED)
    meter.answered(CALLER, "recommend", Response(b"", 404))
    asyncio.run(meter.flush())
    assert [tuple(row) for row in teams.usage()] == [
        (20_000, "growth", "recommend", "ranker", 3, 1)
    ]
    assert 'team="growth"' in metrics.expose()


def test_days_are_counted_apart(meter, teams, clock):
    meter.answered(CALLER, "recommend", SCORED)
    clock.advance(DAY)
    meter.answered(CALLER, "recommend", SCORED)
    asyncio.run(meter.flush())
    assert [row.day for row in teams.usage()] == [20_000, 20_001]


def test_what_cannot_be_stored_is_stored_later_once(meter, teams, caplog):
    teams.failure = StoreFull("The disk is full.", "Free some.")
    meter.answered(CALLER, "recommend", SCORED)
    meter.key_used(CALLER, "/api/recommend")
    for _ in range(3):
        asyncio.run(meter.flush())
    meter.answered(CALLER, "recommend", SCORED)
    teams.failure = None
    for _ in range(2):
        asyncio.run(meter.flush())
    assert [row.requests for row in teams.usage()] == [2]
    assert [entry.action for entry in teams.audit(9)] == ["use"]
    assert caplog.text.count("The disk is full.") == 1


def test_a_minute_has_one_use_of_a_key_on_a_route(meter, teams, clock):
    for _ in range(3):
        meter.key_used(CALLER, "/api/recommend")
        meter.key_used(CALLER, "/api/events")
        clock.advance(MINUTE - 1)
    asyncio.run(meter.flush())
    assert [(e.at - 20_000 * DAY, e.detail) for e in teams.audit(9)] == [
        (0, "/api/recommend"),
        (0, "/api/events"),
        (MINUTE, "/api/recommend"),
        (MINUTE, "/api/events"),
    ]


def test_it_is_stored_while_it_runs_and_when_it_is_told_to_stop(meter, teams, monkeypatch):
    monkeypatch.setattr(usage, "FLUSH_SECONDS", 0.001)

    async def session():
        following = asyncio.create_task(meter.follow())
        meter.answered(CALLER, "recommend", SCORED)
        async with asyncio.timeout(10):
            while not teams.usage():
                await asyncio.sleep(0.001)
        monkeypatch.setattr(usage, "FLUSH_SECONDS", 600.0)
        await asyncio.sleep(0.01)
        meter.answered(CALLER, "recommend", SCORED)
        meter.stop()
        await following

    asyncio.run(session())
    assert [row.requests for row in teams.usage()] == [2]
