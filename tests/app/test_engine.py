import time

import pytest

from feilun.app import engine
from feilun.errors import CorruptData, StoreFull


class Until:
    """True after it has been asked so many times."""

    def __init__(self, times):
        self.left = times

    def __bool__(self):
        self.left -= 1
        return self.left < 0


class Records:
    """A log and its engine in one: so many records come at each look."""

    def __init__(self, arriving, fail=(), error=StoreFull):
        self.arriving = list(arriving)
        self.fail = set(fail)
        self.error = error
        self.total = self.folded = self.calls = self.checks = 0
        self.damaged = []

    def end(self):
        if self.arriving:
            self.total += self.arriving.pop(0)
        return self.total

    def check(self):
        self.checks += 1
        return self.damaged.pop(0) if self.damaged else 0

    def run_once(self, limit=10):
        self.calls += 1
        if self.calls in self.fail:
            raise self.error("Not now.")
        done = min(limit, self.total - self.folded)
        self.folded += done
        return done


def pauses(monkeypatch, records, looks):
    taken = []
    monkeypatch.setattr(time, "sleep", taken.append)
    engine.run(engine.Folding(records), records, Until(looks))
    return taken


def test_it_folds_everything_without_waiting_while_there_is_work(monkeypatch):
    records = Records([25, 10])
    assert pauses(monkeypatch, records, 5) == []
    assert records.folded == 35


def test_it_looks_less_and_less_often_while_nothing_comes(monkeypatch):
    records = Records([])
    taken = pauses(monkeypatch, records, 100)
    assert taken[0] == engine.SHORTEST_PAUSE
    assert taken == sorted(taken)
    assert taken[-1] == engine.LONGEST_PAUSE
    assert records.calls == 1


def test_it_wakes_up_at_once_when_something_comes(monkeypatch):
    records = Records([1] + [0] * 60 + [1])
    taken = pauses(monkeypatch, records, 80)
    assert records.folded == 2
    assert taken.count(engine.SHORTEST_PAUSE) == 2


@pytest.mark.parametrize("error", [StoreFull, CorruptData])
def test_a_full_disk_and_damage_are_waited_for_and_told_once(monkeypatch, caplog, error):
    records = Records([5], fail={1, 2}, error=error)
    taken = pauses(monkeypatch, records, 4)
    assert taken == [engine.STILL_PAUSE] * 2
    assert records.folded == 5
    assert [record.message for record in caplog.records] == ["cannot fold now: Not now."]


def test_it_looks_again_though_nothing_comes(monkeypatch):
    """What was released meanwhile may read what is not folded yet."""
    monkeypatch.setattr(engine, "LOOK_AGAIN", 0.0)
    records = Records([])
    assert pauses(monkeypatch, records, 5) == []
    assert records.calls == 5


class Seconds:
    """A clock that moves while somebody sleeps."""

    def __init__(self):
        self.now = 100.0

    def sleep(self, seconds):
        self.now += seconds


def test_it_checks_what_is_stored_in_a_hundredth_of_the_time_while_nothing_comes(monkeypatch):
    seconds, records = Seconds(), Records([])
    monkeypatch.setattr(time, "monotonic", lambda: seconds.now)
    monkeypatch.setattr(time, "sleep", seconds.sleep)
    check = records.check

    def slow():
        seconds.now += 0.1
        return check()

    records.check = slow
    engine.run(engine.Folding(records), records, Until(10_000))
    passed = seconds.now - 100
    assert passed > 100
    assert 0.009 < records.checks * 0.1 / passed < 0.011


def test_it_checks_nothing_while_there_is_work(monkeypatch):
    records = Records([1] * 50)
    assert pauses(monkeypatch, records, 50) == []
    assert (records.folded, records.checks) == (50, 0)


def test_damage_that_it_found_is_mended_at_once(monkeypatch):
    records = Records([])
    records.damaged = [0, 2]
    monkeypatch.setattr(engine, "CHECK_SHARE", float("inf"))
    pauses(monkeypatch, records, 2)
    assert records.calls == 1
    pauses(monkeypatch, records, 4)
    assert records.calls > 2
