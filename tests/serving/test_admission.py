"""How many a worker lets in: as many as the event loop answers soon, the most urgent first."""

import asyncio
import time
from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.serving.http.admission import (
    BURST_SECONDS,
    FEWEST,
    INTERVAL_SECONDS,
    LATE_SECONDS,
    MOST,
    REFUSAL_SECONDS,
    REFUSING_SHARE,
    SHARES,
    TICK_SECONDS,
    WAITING,
    Admission,
    Overloaded,
)

LATE, IN_TIME = 2 * LATE_SECONDS, LATE_SECONDS / 2


def interval(admission, late, inside=0, rate=0.0):
    """Have so many inside for an interval, in which so many a second are answered."""
    admission.inside += inside
    admission.most_inside = max(admission.most_inside, admission.inside)
    passed = 0.0
    while passed < INTERVAL_SECONDS:
        each = late.pop() if isinstance(late, list) and late else late or 0.0
        passed += TICK_SECONDS + each
        admission.answered += round(rate * (TICK_SECONDS + each))
        admission.tick(each)
    admission.inside -= inside


def limited(limit):
    admission = Admission()
    admission.limit = limit
    return admission


def test_places_are_given_back_however_a_request_ends():
    admission = limited(FEWEST)
    for _ in range(3 * FEWEST):
        with pytest.raises(ZeroDivisionError), admission.place("first"):
            assert admission.inside == 1
            raise ZeroDivisionError
    assert admission.inside == 0


@pytest.mark.parametrize("priority", SHARES)
def test_each_priority_fills_its_share_and_no_more(priority):
    admission = limited(100)
    with ExitStack() as held:
        for _ in range(round(100 * SHARES[priority])):
            held.enter_context(admission.place(priority))
        with pytest.raises(Overloaded) as refused:
            held.enter_context(admission.place(priority))
        assert refused.value.status == 503
        with admission.place("always"):  # whoever operates the gateway still sees it
            pass
        for more in SHARES:
            if SHARES[more] > SHARES[priority]:
                held.enter_context(admission.place(more))


def test_a_burst_lets_nobody_out_and_a_queue_does():
    admission = limited(100)
    interval(admission, [1.5 * LATE_SECONDS], inside=100)
    assert admission.limit >= 100
    interval(admission, LATE, inside=100)
    assert admission.limit < 100


class Hour(asyncio.SelectorEventLoop):
    """An event loop whose time passes by sleeping alone."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def refusals(together, times):
    """Refuse so many callers, each again as soon as it was told; return when each was told."""
    loop, admission, told = Hour(), Admission(), []

    async def caller():
        for _ in range(times):
            await admission.refused()
            told.append(loop.time())

    async def all_callers():
        await asyncio.gather(*(caller() for _ in range(together)))

    try:
        loop.run_until_complete(all_callers())
    finally:
        loop.close()
    return admission, told


def test_a_few_who_are_refused_together_are_told_at_once():
    _, told = refusals(round(BURST_SECONDS * REFUSING_SHARE / REFUSAL_SECONDS) - 1, 1)
    assert set(told) == {0.0}


@pytest.mark.parametrize("together", [64, 500])
def test_callers_who_do_not_wait_take_no_more_than_the_share_of_refusals(together):
    _, told = refusals(together, 20)
    taken = len(told) * REFUSAL_SECONDS
    assert taken <= REFUSING_SHARE * (max(told) + BURST_SECONDS) * 1.001
    assert told == sorted(told)


def test_what_refusals_took_makes_nobody_late():
    admission, _ = refusals(round(0.4 * INTERVAL_SECONDS / REFUSAL_SECONDS), 1)
    admission.limit = 100
    interval(admission, 1.2 * LATE_SECONDS, inside=100)
    assert admission.limit >= 100
    interval(admission, 1.2 * LATE_SECONDS, inside=100)
    assert admission.limit < 100


def test_the_limit_falls_from_how_many_there_were():
    admission = Admission()
    interval(admission, LATE, inside=40)
    assert FEWEST < admission.limit < 40


def test_the_limit_grows_only_while_it_is_nearly_reached():
    admission = limited(50)
    interval(admission, IN_TIME, inside=5)
    assert admission.limit == 50
    interval(admission, IN_TIME, inside=50)
    assert admission.limit > 50


@given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(0, 200))))
def test_the_limit_keeps_its_bounds(intervals):
    admission = Admission()
    for late, inside in intervals:
        interval(admission, late, inside)
        assert FEWEST <= admission.limit <= MOST


@settings(max_examples=10)
@given(st.floats(1e-5, 1e-3))
def test_it_finds_how_many_the_loop_answers_in_time(seconds_each):
    """A request costs the loop the same each time, and there are always more than can be let in."""
    admission = Admission()
    found = []
    for _ in range(200):
        inside = min(admission.limit, 2 * MOST)
        interval(admission, inside * seconds_each, inside, 1 / seconds_each)
        found.append(admission.limit * seconds_each)
    best = max(min(LATE_SECONDS, WAITING * seconds_each), FEWEST * seconds_each)
    assert all(best * 0.8 <= each <= best * 1.2 + seconds_each for each in found[-50:])


def test_what_waits_while_few_are_answered_may_wait_for_their_work():
    """Ten milliseconds are little where each takes one, and much where a hundred do not."""
    slow, quick = limited(100), limited(100)
    for _ in range(20):
        interval(slow, 0.01, 100, rate=1_000)
        interval(quick, 0.01, 100, rate=10_000)
    assert slow.limit >= 100
    assert quick.limit < 100


def test_a_queue_makes_late_for_as_long_as_the_loop_was_late_not_for_its_own_age():
    admission = limited(100)
    admission.most_inside = 100
    admission.tick(0.0, 5 * LATE_SECONDS)  # one look of twenty
    for _ in range(round(INTERVAL_SECONDS / TICK_SECONDS)):
        admission.tick(0.0, LATE_SECONDS / 2)
    assert admission.limit > 100


def test_a_loop_that_is_late_for_everybody_at_once_is_late_though_it_rests_between():
    """All inside wait for one commit, are answered together, and come again together."""
    admission = Admission()
    for _ in range(40):
        interval(admission, [0.001 * min(admission.limit, 640) / 4], inside=640)
    assert admission.limit < 240


def test_it_watches_a_real_loop():
    admission = Admission()

    async def run():
        following = asyncio.create_task(admission.follow())
        until = time.monotonic() + 40 * INTERVAL_SECONDS
        with ExitStack() as held:
            for _ in range(20):
                held.enter_context(admission.place("first"))
            while time.monotonic() < until and admission.limit == MOST:
                time.sleep(5 * LATE_SECONDS)  # somebody keeps the loop busy
                await asyncio.sleep(0)
        following.cancel()

    asyncio.run(run())
    assert admission.limit < 20


def test_a_gateway_without_a_place_refuses_soon_and_goes_on_when_there_is_one(shop, caplog):
    """Health is never refused, events are before predictions; a refusal fills no log."""

    async def session():
        shop.app._guard._keyring.refresh()
        admission = shop.app._admission
        admission.limit = FEWEST
        ask = {"user_id": 1}
        with ExitStack() as held:
            for _ in range(round(FEWEST * SHARES["second"])):
                held.enter_context(admission.place("first"))
            views = await shop.client.get("/api/user_profile", ask)
            events = await shop.client.post("/api/events", [])
            capability = await shop.client.get("/api/recommend", ask)
            while admission.inside < FEWEST:
                held.enter_context(admission.place("first"))
            refused = await shop.client.get("/api/recommend", ask)
            alive = await shop.client.get("/health")
            metrics = await shop.client.get("/metrics")
        return views, events, capability, refused, alive, metrics

    views, events, capability, refused, alive, metrics = asyncio.run(session())
    for reply in (views, events, refused):
        assert (reply.status, reply.code) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
    assert capability.status == 200
    assert alive.status == 200
    inside = FEWEST + 1  # the request for the metrics too
    assert f'feilun_requests_inside{{worker="w1"}} {inside}' in metrics.body.decode()
    assert "overloaded" not in caplog.text
    assert "more requests" not in caplog.text
