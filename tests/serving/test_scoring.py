"""When a scorer leaves the event loop, and when it comes back."""

import asyncio
import threading

import numpy as np
import pytest

from feilun.errors import ModelError
from feilun.serving.scoring import guarded_scorer
from feilun.serving.scoring.breaker import FAILURES, FIRST_REST_SECONDS
from feilun.serving.scoring.guarded_scorer import QUICK_CALLS, SLOTS, SLOW_CALLS, GuardedScorer

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
    monkeypatch.setattr(guarded_scorer, "DEADLINE_SECONDS", 0.1)
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


class Failing(Timed):
    """A scorer that fails, each time after as long as the test says, until it is mended."""

    mended = False

    def score(self, matrix):
        scores = super().score(matrix)
        if not self.mended:
            raise OSError("gone")
        return scores


def outcomes(scorer, guarded, script):
    """Return for each step whether the model was called and whether the call succeeded.

    A step is how long to wait before it, how long the call takes, and whether it is mended.
    """
    row = np.zeros((1, 1), np.float32)
    found = []

    async def run():
        for wait, scorer.takes, scorer.mended in script:
            scorer.now += wait
            before = len(scorer.in_loop)
            try:
                await guarded.score(row)
            except ModelError:
                found.append((len(scorer.in_loop) > before, False))
            else:
                found.append((len(scorer.in_loop) > before, True))

    asyncio.run(run())
    return found


CALLED, SPARED, ANSWERED = (True, False), (False, False), (True, True)


def waiting():
    scorer = Failing()
    return scorer, GuardedScorer(scorer, 1, timer=lambda: scorer.now, waits=True)


def test_what_fails_after_a_wait_again_and_again_is_left_alone_for_longer_and_longer():
    script = [
        *[(0, 0.9, False)] * (FAILURES + 2),  # the last two are spared
        (FIRST_REST_SECONDS, 0.9, False),  # a trial fails
        (FIRST_REST_SECONDS, 0.9, False),  # now it rests for twice as long
        (FIRST_REST_SECONDS, 0.1, True),  # a trial succeeds
        (0, 0.1, True),
    ]
    expected = [CALLED] * FAILURES + [SPARED] * 2 + [CALLED, SPARED, ANSWERED, ANSWERED]
    assert outcomes(*waiting(), script) == expected


def test_failures_that_cost_no_wait_spare_nobody_a_try():
    """They may be the requests' own: one caller's must not cost all others their answers."""
    assert outcomes(*waiting(), [(0, 0.01, False)] * 20) == [CALLED] * 20


def test_a_success_in_between_begins_the_count_anew():
    some = [(0, 0.9, False)] * (FAILURES - 1)
    expected = [*[CALLED] * (FAILURES - 1), ANSWERED, *[CALLED] * (FAILURES - 1)]
    assert outcomes(*waiting(), [*some, (0, 0.1, True), *some]) == expected


def test_a_trial_is_one_call_and_the_others_are_spared_meanwhile():
    scorer, guarded = waiting()
    outcomes(scorer, guarded, [(0, 0.9, False)] * FAILURES)
    scorer.now += FIRST_REST_SECONDS
    scorer.takes = 0.5
    row = np.zeros((1, 1), np.float32)

    async def run():
        return await asyncio.gather(*(guarded.score(row) for _ in range(5)), return_exceptions=True)

    called = len(scorer.in_loop)
    found = asyncio.run(run())
    assert len(scorer.in_loop) == called + 1
    assert sum("in a row" in str(error) for error in found) == 4


def test_a_quick_scorer_that_fails_slowly_leaves_the_loop():
    scorer = Failing()
    guarded = GuardedScorer(scorer, 1, timer=lambda: scorer.now)
    assert outcomes(scorer, guarded, [(0, STALLED, False)] * 2) == [CALLED] * 2
    assert scorer.in_loop == [True, False]
