"""Concurrent requests share transactions, and none pays for another."""

from __future__ import annotations

import asyncio
import json
import threading

import msgspec
import pytest

from feilun.clock import ManualClock
from feilun.errors import InputError, StoreFull, Unavailable
from feilun.events.collector import Collector, ItemAnswer
from feilun.events.committer import Committer
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START, make_record


class GatedLog(MemoryLog):
    """A log whose appends wait for a gate, and are counted."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.groups = []

    def append(self, records):
        assert self.gate.wait(10)
        self.groups.append(len(records))
        return super().append(records)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, 20))


def test_each_request_gets_its_own_answers():
    async def scenario():
        committer = Committer(MemoryLog())
        asked = [[make_record(f"{n}-{m}") for m in range(n % 4)] for n in range(40)]
        answers = await asyncio.gather(*(committer.commit(records) for records in asked))
        await committer.close()
        return asked, answers

    asked, answers = run(scenario())
    assert [len(a) for a in answers] == [len(records) for records in asked]
    offsets = [answer.offset for each in answers for answer in each]
    assert sorted(offsets) == list(range(sum(map(len, asked))))


def test_what_comes_during_a_transaction_shares_the_next():
    log = GatedLog()

    async def scenario():
        committer = Committer(log)
        first = asyncio.create_task(committer.commit([make_record("first")]))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(committer.commit([make_record(str(n))])) for n in range(20)]
        await asyncio.sleep(0)
        log.gate.set()
        await asyncio.gather(first, *rest)
        await committer.close()

    run(scenario())
    assert log.groups == [1, 20]


def test_a_full_queue_refuses_and_then_takes_again():
    log = GatedLog()

    async def scenario():
        committer = Committer(log, queue_records=3)
        task = asyncio.create_task(committer.commit([make_record(str(n)) for n in range(3)]))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await committer.commit([make_record("more")])
        log.gate.set()
        await task
        assert [a.status for a in await committer.commit([make_record("more")])] == ["accepted"]
        await committer.close()

    run(scenario())
    assert log.end() == 4


def test_one_wrong_request_costs_no_other():
    log = GatedLog()

    async def scenario():
        committer = Committer(log)
        records = [make_record("0"), make_record(""), make_record("2")]
        tasks = [asyncio.create_task(committer.commit([record])) for record in records]
        await asyncio.sleep(0.05)
        log.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await committer.close()
        return answers

    first, wrong, last = run(scenario())
    assert isinstance(wrong, InputError)
    assert first[0].status == last[0].status == "accepted"


def test_a_full_log_is_told_to_everyone():
    async def scenario():
        committer = Committer(MemoryLog(quota=0))
        with pytest.raises(StoreFull):
            await committer.commit([make_record("1")])
        await committer.close()

    run(scenario())


def test_closing_finishes_what_waits_and_refuses_the_rest():
    log = GatedLog()

    async def scenario():
        committer = Committer(log)
        tasks = [asyncio.create_task(committer.commit([make_record(str(n))])) for n in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await committer.commit([make_record("late")])
        log.gate.set()
        await closing
        assert all(task.done() for task in tasks)
        await asyncio.gather(*tasks)

    run(scenario())
    assert log.end() == 5


def test_a_caller_that_gives_up_harms_nobody():
    log = GatedLog()

    async def scenario():
        committer = Committer(log)
        gone = asyncio.create_task(committer.commit([make_record("gone")]))
        stays = asyncio.create_task(committer.commit([make_record("stays")]))
        await asyncio.sleep(0)
        gone.cancel()
        log.gate.set()
        assert (await stays)[0].status == "accepted"
        await committer.close()

    run(scenario())
    assert log.end() == 2


def test_the_collector_answers_as_it_does_alone(project):
    tick = {"event": "tick", "id": "1", "time": START, "fields": {}}
    body = json.dumps([tick, {"event": "tock"}, tick]).encode()
    log = MemoryLog()

    async def scenario():
        committer = Committer(log)
        collector = Collector(project, log, ManualClock(START))
        answers = await collector.collect(committer, "web", body)
        with pytest.raises(InputError):
            await collector.collect(committer, "web", b"{")
        await committer.close()
        return answers

    answers = msgspec.json.decode(run(scenario()), type=list[ItemAnswer])
    assert answers == Collector(project, MemoryLog(), ManualClock(START)).accept("web", body)
    assert len(log.bad()) == 2


async def _flood(committer, senders, bodies, size):
    """Let each sender send its bodies one after the other, as soon as it is answered."""

    async def send(sender):
        for body in range(bodies):
            await committer.commit([make_record(f"{sender}-{body}-{n}") for n in range(size)])

    await asyncio.gather(*map(send, range(senders)))
    await committer.close()


def test_those_who_were_answered_together_share_the_next_transaction():
    log = GatedLog()
    log.gate.set()
    run(_flood(Committer(log), senders=8, bodies=4, size=250))
    assert log.groups[-3:] == [2_000] * 3
    assert log.end() == 8_000


def test_a_transaction_waits_while_each_turn_of_the_loop_brings_more(monkeypatch):
    monkeypatch.setattr("feilun.events.committer.GATHER_SECONDS", 60.0)
    log = GatedLog()
    log.gate.set()

    async def scenario():
        committer = Committer(log)
        sent = []
        for number in range(30):
            sent.append(asyncio.create_task(committer.commit([make_record(str(number))])))
            await asyncio.sleep(0)
        await asyncio.gather(*sent)
        await committer.close()

    run(scenario())
    assert log.groups == [30]


def test_it_does_not_wait_for_what_is_not_on_its_way(monkeypatch):
    monkeypatch.setattr("feilun.events.committer.GATHER_SECONDS", 60.0)
    run(_flood(Committer(MemoryLog()), senders=1, bodies=3, size=2_000))
    run(_flood(Committer(MemoryLog()), senders=2, bodies=3, size=100))


@pytest.mark.parametrize(("seconds", "records"), [(0.01, 5_000), (60.0, 10)])
def test_it_waits_no_longer_than_a_while_and_for_no_more_than_a_group(
    monkeypatch, seconds, records
):
    """More and more come until the first is answered: in time, or once the group is full."""
    monkeypatch.setattr("feilun.events.committer.GATHER_SECONDS", seconds)
    monkeypatch.setattr("feilun.events.committer.GROUP_RECORDS", records)
    log = GatedLog()
    log.gate.set()

    async def scenario():
        committer = Committer(log)
        first = asyncio.create_task(committer.commit([make_record("first")]))
        more = []
        while not first.done():
            more.append(asyncio.create_task(committer.commit([make_record(str(len(more)))])))
            await asyncio.sleep(0)
        await asyncio.gather(*more)
        await committer.close()

    run(scenario())
    assert 1 < log.groups[0] <= records


def test_who_stays_away_is_not_waited_for_long():
    log = GatedLog()
    log.gate.set()

    async def scenario():
        committer = Committer(log)
        many = [[make_record(f"{n}-{m}") for m in range(500)] for n in range(4)]
        await asyncio.gather(*map(committer.commit, many))
        await committer.commit([make_record("alone")])
        await committer.close()

    run(scenario())
    assert log.groups[-1] == 1
