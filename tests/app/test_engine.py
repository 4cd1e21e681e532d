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
        self.total = self.folded = self.calls = 0

    def end(self):
        if self.arriving:
            self.total += self.arriving.pop(0)
        return self.total

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
