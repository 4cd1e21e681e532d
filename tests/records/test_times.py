"""Times as files and databases write them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.clock import DAY, SECOND
from feilun.records.times import to_time, to_time_like

SHANGHAI = ZoneInfo("Asia/Shanghai")
TIMES = st.integers(10**15, 4 * 10**15)  # 2001 to 2096: no change of clocks in Shanghai


@pytest.mark.parametrize(
    ("sample", "unit"),
    [
        (5, 1),
        ("5", 1),
        (datetime(2024, 5, 1), 1),
        (datetime(2024, 5, 1, tzinfo=UTC), 1),
        ("2024-05-01 09:30:00.5", SECOND),
        ("2024-05-01T09:30:00Z", SECOND),
        ("2024-05-01T09:30:00+08:00", SECOND),
    ],
)
@given(time=TIMES)
def test_a_time_written_like_another_is_that_time_or_just_before_it(sample, unit, time):
    written = to_time_like(sample, time, SHANGHAI)
    assert type(written) is type(sample)
    zone = SHANGHAI
    if isinstance(sample, str) and (own := tzinfo_of(sample)):
        zone = own  # the sample's zone, which a bound leaves out
    assert to_time(written, zone) == time // unit * unit


def tzinfo_of(sample):
    return None if sample.isdecimal() else datetime.fromisoformat(sample).tzinfo


@given(TIMES, TIMES)
def test_text_of_one_form_is_in_the_order_of_time(one, other):
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S"):
        moments = [datetime.fromtimestamp(0, UTC) + timedelta(microseconds=t) for t in (one, other)]
        text = [moment.strftime(form) for moment in moments]
        zone = ZoneInfo("UTC")
        assert (to_time_like(text[0], one, zone) <= text[0]) is True
        if one // SECOND < other // SECOND:
            assert to_time_like(text[1], other, zone) > text[0]


def test_dates_begin_at_midnight_of_the_zone():
    day = date(2024, 5, 1)
    assert to_time(day, SHANGHAI) == to_time("2024-05-01", SHANGHAI)
    assert to_time(day, ZoneInfo("UTC")) - to_time(day, SHANGHAI) == DAY // 3
    assert to_time_like(day, to_time(day, SHANGHAI), SHANGHAI) == day
    assert to_time_like("2024-01-01", to_time(day, SHANGHAI) - 1, SHANGHAI) == "2024-04-30"


@pytest.mark.parametrize("value", [None, True, 1.5, b"5", "soon", "", UTC])
def test_what_is_no_time(value):
    with pytest.raises(ValueError, match=r"time|isoformat"):
        to_time(value, SHANGHAI)
    with pytest.raises(ValueError, match=r"time|isoformat"):
        to_time_like(value, 0, SHANGHAI)
