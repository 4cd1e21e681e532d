"""Durations, windows and hops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.clock import DAY, HOUR, MINUTE, SECOND
from feilun.definitions.windows import (
    MAX_TILES,
    UNITS,
    Window,
    WindowError,
    check_hop,
    default_hop,
    parse_duration,
    parse_window,
)

WINDOWS = st.integers(1, 500 * 24 * 3600).map(lambda seconds: seconds * SECOND)


@given(st.integers(1, 500), st.sampled_from(list(UNITS)))
def test_a_duration_is_a_number_of_units(number, unit):
    assert parse_duration(f"{number}{unit}") == number * UNITS[unit]
    assert parse_window(f"{number}{unit}") == Window(number * UNITS[unit])


@given(st.integers(2, MAX_TILES))
def test_calendar_days(days):
    assert parse_window(f"{days} calendar days") == Window(days * DAY, days)


def test_today():
    assert parse_window("today") == parse_window("1 calendar day") == Window(DAY, 1)


@given(st.one_of(st.text(max_size=20), st.integers(), st.none(), st.floats()))
def test_anything_else_is_refused_and_explained(text):
    for parse in (parse_duration, parse_window):
        try:
            parse(text)
        except WindowError as error:
            assert error.what.endswith(".")
            assert error.fix.endswith(".")


@pytest.mark.parametrize(
    "text",
    ["", "7", "d", "7 d", "-7d", "07d", "1.5h", "7D", "7days", "٧d", "99999999999999w", "7d\n"],
)
def test_what_looks_like_a_duration(text):
    with pytest.raises(WindowError):
        parse_duration(text)
    with pytest.raises(WindowError):
        parse_window(text)


@given(WINDOWS)
def test_a_default_hop_divides_a_day_and_needs_no_more_tiles_than_are_allowed(window):
    hop = default_hop(window)
    assert 0 < hop <= window // 12 or hop == DAY
    assert DAY % hop == 0
    assert hop <= (5 * MINUTE if window < 12 * HOUR else HOUR if window < 12 * DAY else DAY)
    check_hop(window, hop)


@pytest.mark.parametrize(
    ("window", "hop"),
    [
        (HOUR, 5 * MINUTE),
        (11 * HOUR, 5 * MINUTE),
        (12 * HOUR, HOUR),
        (DAY, HOUR),
        (11 * DAY, HOUR),
        (12 * DAY, DAY),
        (365 * DAY, DAY),
        (7 * MINUTE, 32 * SECOND),  # a twelfth, 35 s, does not divide a day
        (MINUTE, 5 * SECOND),
    ],
)
def test_default_hops(window, hop):
    assert default_hop(window) == hop


@given(st.integers(513, 3660))
def test_the_hop_that_is_proposed_is_accepted(days):
    with pytest.raises(WindowError) as caught:
        check_hop(days * DAY, DAY)
    check_hop(days * DAY, parse_duration(caught.value.fix.split('"')[1]))
