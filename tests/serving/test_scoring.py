"""When a scorer leaves the event loop, and when it comes back."""

import asyncio
import threading

import numpy as np
import pytest

from feilun.serving import scoring
from feilun.serving.scoring import QUICK_CALLS, SLOTS, SLOW_CALLS, GuardedScorer

QUICK, SLOW, STALLED = 0.001, 0.01, 0.06


class Timed:
    """A scorer whose calls take as long as the test says; it remembers where each one ran."""

    def __init__(self):
        self.now = 0.0
        self.takes = QUICK
        self.in_loop = []
        self.loop_thread = threading.get_ident()

    def score(self, matrix):
        self.now += self.takes
        self.in_loop.append(threading.get_ident() == self.loop_thread)
        return np.zeros(len(matrix))


def places(script):
    """Return whether each call of the script, pairs of seconds and calls, ran in the loop."""
    scorer = Timed()
    guarded = GuardedScorer(scorer, 1, timer=lambda: scorer.now)

    async def run():
        for scorer.takes, calls in script:
            for _ in range(calls):
                await guarded.score(np.zeros((1, 1), np.float32))

    asyncio.run(run())
    return scorer.in_loop


@pytest.mark.parametrize(("takes", "calls"), [(STALLED, 1), (SLOW, SLOW_CALLS)])
def test_what_is_slow_leaves_the_loop_and_comes_back_when_it_is_quick(takes, calls):
    found = places([(QUICK, 3), (takes, calls), (QUICK, QUICK_CALLS + 2)])
    assert found == [True] * (3 + calls) + [False] * QUICK_CALLS + [True] * 2


def test_a_few_slow_calls_apart_move_nothing():
    assert all(places([(SLOW, SLOW_CALLS - 1), (QUICK, 1)] * 3))


def test_a_slow_call_aside_begins_the_wait_anew():
    found = places([(STALLED, 1), (QUICK, 9), (SLOW, 1), (QUICK, QUICK_CALLS + 1)])
    assert found == [True] + [False] * (10 + QUICK_CALLS) + [True]


def test_each_return_takes_twice_as_long():
    found = places([(STALLED, 1), (QUICK, QUICK_CALLS), (STALLED, 1), (QUICK, 2 * QUICK_CALLS + 1)])
    aside = [False] * QUICK_CALLS
    assert found == [True, *aside, True, *aside, *aside, True]


def test_many_requests_at_once_wait_for_the_slots_of_a_scorer_that_just_left():
    scorer = Timed()
    guarded = GuardedScorer(scorer, 1, timer=lambda: scorer.now)
    row = np.zeros((1, 1), np.float32)

    async def run():
        scorer.takes = STALLED
        await guarded.score(row)
        return await asyncio.gather(*(guarded.score(row) for _ in range(5 * SLOTS)))

    assert len(asyncio.run(run())) == 5 * SLOTS


def test_once_all_slots_are_stuck_for_the_deadline_calls_fail_at_once(monkeypatch):
    monkeypatch.setattr(scoring, "DEADLINE_SECONDS", 0.1)
    release = threading.Event()

    class Stuck(Timed):
        def score(self, matrix):
            if not self.in_loop:  # the first call is slow, and all others never end
                return super().score(matrix)
            release.wait(60)
            return np.zeros(len(matrix))

    scorer = Stuck()
    guarded = GuardedScorer(scorer, 1, timer=lambda: scorer.now)
    row = np.zeros((1, 1), np.float32)

    async def run():
        scorer.takes = STALLED
        await guarded.score(row)
        calls = [guarded.score(row) for _ in range(SLOTS)]
        late = await asyncio.gather(*calls, return_exceptions=True)
        at_once = asyncio.create_task(guarded.score(row))
        await asyncio.sleep(0)  # it fails without waiting for anything
        return late, at_once

    try:
        late, at_once = asyncio.run(run())
    finally:
        release.set()
    assert all("did not answer" in str(error) for error in late)
    assert "stuck" in str(at_once.exception())
