"""The offset at which a turn falls due is a function of the log alone."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import MINUTE
from feilun.definitions.specs import FlywheelSpec, GateSpec, TriggerSpec
from feilun.flywheel import triggers
from feilun.flywheel.triggers import Watch
from feilun.records.record import IMPORTED, LATE
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world

MODEL = world.model()


def loop(*conditions):
    return FlywheelSpec(
        "ranker", tuple(TriggerSpec(*each) for each in conditions), GateSpec(0.95, 0.0)
    )


class Portions(MemoryLog):
    """A log that is read in portions of a given size, whatever is asked for."""

    portion = 1_000

    def read(self, start, limit=10_000):
        return super().read(start, min(limit, self.portion))


def due(watch, log):
    found = []
    while (each := watch.next_due(log)) is not None:
        found.append(each)
    return found


def filled(kinds):
    """Return a log of predictions (p), clicks (c), late clicks (l) and imported ones (i)."""
    log = Portions()
    for number, kind in enumerate(kinds):
        time = START + number * MINUTE
        if kind == "p":
            record = world.prediction(number, time, user=1, vectors=[[0, 0]] * world.ITEMS)
        else:
            flags = {"c": 0, "l": LATE, "i": IMPORTED}[kind]
            record = world.click(f"c{number}", time, 1, 1, flags=flags)
        log.append([record])
    return log


def naive(kinds, outcomes, clicks):
    """Count by hand: an outcome ripens at the first record that is 10 minutes later."""
    cuts, start = [], 0
    for end in range(1, len(kinds) + 1):
        ripe = sum(kinds[n] == "p" and start <= n + 10 < end for n in range(end))
        seen = kinds[start:end].count("c")
        if (outcomes and ripe >= outcomes) or (clicks and seen >= clicks):
            cuts.append(end)
            start = end
    return cuts


LOGS = st.text("pcli", max_size=80)


@given(kinds=LOGS, outcomes=st.integers(1, 6), clicks=st.integers(0, 9), data=st.data())
def test_it_does_not_depend_on_portions_or_on_when_anybody_looked(kinds, outcomes, clicks, data):
    conditions = [(outcomes, None)] + ([(clicks, "click")] if clicks else [])
    whole = filled(kinds)
    expected = naive(kinds, outcomes, clicks)
    assert [each.cut for each in due(Watch(loop(*conditions), MODEL), whole)] == expected

    growing, cuts = Portions(), []
    growing.portion = data.draw(st.integers(1, 7), label="portion")
    watch = Watch(loop(*conditions), MODEL)
    records = [record for _, record in whole.read(0)]
    while records:
        size = data.draw(st.integers(1, 20), label="arrived")
        growing.append(records[:size])
        records = records[size:]
        cuts += [each.cut for each in due(watch, growing)]
    assert cuts == expected


@given(kinds=LOGS, outcomes=st.integers(1, 6), data=st.data())
def test_it_goes_on_after_a_restart_where_it_was(kinds, outcomes, data):
    log = filled(kinds)
    expected = naive(kinds, outcomes, 0)
    examined = data.draw(st.integers(0, log.end()), label="examined")
    opened = [cut for cut in expected if cut <= examined]
    again = Watch(loop((outcomes, None)), MODEL, examined, opened)
    assert [each.cut for each in due(again, log)] == expected[len(opened) :]


@settings(max_examples=30)
@given(kinds=LOGS, by_hand=st.integers(1, 80))
def test_counting_begins_anew_at_a_turn_by_hand(kinds, by_hand):
    log = filled(kinds)
    watch = Watch(loop((3, "click")), MODEL, cuts=[by_hand])
    before = naive(kinds[:by_hand], 0, 3)
    after = [by_hand + cut for cut in naive(kinds[by_hand:], 0, 3)]
    assert [each.cut for each in due(watch, log)] == [c for c in before if c != by_hand] + after


def test_a_trigger_is_named_in_the_turn():
    log = filled("pccc" + "c" * 12)
    watch = Watch(loop((3, "click"), (1, None)), MODEL)
    assert [(each.cut, each.trigger) for each in due(watch, log)][:2] == [
        (4, "3 click events"),
        (7, "3 click events"),
    ]
    watch = Watch(loop((100, "click"), (1, None)), MODEL)
    assert [(each.cut, each.trigger) for each in due(watch, log)] == [(11, "1 outcomes")]


def test_other_models_and_empty_requests_do_not_count():
    log = MemoryLog()
    log.append(
        [
            world.prediction(1, START, 1, [], items=0),
            world.prediction(2, START, 1, [[0, 0]] * world.ITEMS, model="other"),
            world.click("late", START + 60 * MINUTE, 1, 1),
        ]
    )
    assert due(Watch(loop((1, None)), MODEL), log) == []


def test_it_reads_in_batches(monkeypatch):
    monkeypatch.setattr(triggers, "BATCH", 2)
    log = filled("c" * 9)
    watch = Watch(loop((4, "click")), MODEL)
    assert [each.cut for each in due(watch, log)] == [4, 8]
    assert watch.position == 9


@pytest.mark.parametrize("count", [1, 5])
def test_nothing_falls_due_below_what_was_examined(count):
    # The definition was changed after these were looked at: the past is not decided again.
    log = filled("c" * 5)
    watch = Watch(loop((count, "click")), MODEL, examined=5)
    assert due(watch, log) == []
