"""A flood of lines of one kind is cut short, and says so."""

import json
import logging

from feilun.app.logs import ALIKE, SECOND, JsonLines, NoFloods


def record(line, message="full"):
    return logging.LogRecord("feilun", logging.WARNING, "app.py", line, message, (), None)


def test_of_a_flood_a_few_lines_a_second_are_written_and_the_rest_is_counted():
    now = 100.0
    floods = NoFloods(lambda: now)
    written = [each for each in (record(1) for _ in range(500)) if floods.filter(each)]
    assert len(written) == ALIKE
    now += SECOND
    first, second = record(1), record(1)
    assert floods.filter(first)
    assert floods.filter(second)
    assert json.loads(JsonLines().format(first))["left_out"] == 500 - ALIKE
    assert "left_out" not in json.loads(JsonLines().format(second))


def test_lines_of_another_kind_are_written_meanwhile():
    floods = NoFloods(lambda: 0.0)
    assert [floods.filter(record(1)) for _ in range(50)].count(True) == ALIKE
    assert floods.filter(record(2))


def test_a_quiet_second_leaves_nothing_out():
    times = iter([0.0, 0.1, 5.0, 5.1, 60.0])
    floods = NoFloods(lambda: next(times))
    for _ in range(5):
        each = record(1)
        assert floods.filter(each)
        assert not getattr(each, "left_out", 0)
