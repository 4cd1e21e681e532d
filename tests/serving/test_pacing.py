"""Turns of the event loop stay short, whatever comes together, and nobody is passed over."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.serving.http.pacing import TURN_SECONDS, Pace


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time passes by work alone."""

    now = 0.0

    def time(self):
        return self.now


def run(main):
    loop = Loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(main(loop, Pace()), None))
    finally:
        loop.close()


def together(works):
    """Let requests of so much work (s) come in one turn; return their order and all turns."""

    async def main(loop, pace):
        done, turns = [], []

        async def request(number, work):
            await pace.turn()
            loop.now += work
            done.append(number)

        async def watch():
            while len(done) < len(works):
                began = loop.now
                await asyncio.sleep(0)
                turns.append(loop.now - began)

        tasks = [asyncio.create_task(watch())]
        tasks += [asyncio.create_task(request(*each)) for each in enumerate(works)]
        await asyncio.gather(*tasks)
        return done, turns

    return run(main)


works = st.lists(st.floats(0.0, TURN_SECONDS / 4), min_size=1, max_size=200)


@given(works)
def test_all_begin_in_the_order_they_came_and_no_turn_is_long(works):
    done, turns = together(works)
    assert done == list(range(len(works)))
    # Over by the work that was begun last; and by a share that was right for lighter work.
    assert max(turns) <= 2 * TURN_SECONDS + max(works)


def test_a_share_that_was_right_for_light_work_is_halved_for_heavy_work():
    light, heavy = [TURN_SECONDS / 100] * 500, [TURN_SECONDS] * 40
    _, turns = together(light + heavy)
    assert sum(turn > 3 * TURN_SECONDS for turn in turns) <= 6


def test_who_comes_alone_waits_for_no_turn():
    async def main(_loop, pace):
        coroutine = pace.turn()
        with pytest.raises(StopIteration):
            coroutine.send(None)

    run(main)


def test_who_comes_later_does_not_get_ahead_of_the_queue():
    async def main(loop, pace):
        order = []

        async def request(name):
            await pace.turn()
            loop.now += TURN_SECONDS
            order.append(name)

        first = [asyncio.create_task(request(number)) for number in range(5)]
        await asyncio.sleep(0)
        loop.now += 10 * TURN_SECONDS
        await asyncio.gather(*first, asyncio.create_task(request("later")))
        assert order == [0, 1, 2, 3, 4, "later"]

    run(main)


def test_who_gives_up_takes_nobodys_place_and_the_age_is_of_who_waits():
    async def main(loop, pace):
        async def works():
            await pace.turn()
            loop.now = 2.0

        worker = asyncio.create_task(works())
        waiting = [asyncio.create_task(pace.turn()) for _ in range(3)]
        await asyncio.sleep(0)
        assert pace.age(2.5) == 0.5
        waiting[0].cancel()
        await asyncio.gather(worker, *waiting, return_exceptions=True)
        assert all(task.done() for task in waiting)
        assert pace.age(9.0) == 0.0

    run(main)
