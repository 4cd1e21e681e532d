from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.aggregation import floor_hop
from feilun.clock import DAY, HOUR, MINUTE, SECOND
from feilun.errors import ConfigError, InputError

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/Sao_Paulo", "America/Havana",
         "Pacific/Apia", "Asia/Kathmandu"]  # fmt: skip
times = st.integers(-(10**14), 4 * 10**15)  # 1966 to 2096


def at(text, zone="UTC"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


def floor_one(time, hop, zone):
    return int(floor_hop(np.array([time]), hop, zone)[0])


def test_a_short_hop_counts_from_the_epoch():
    assert floor_one(at("2026-01-01T12:34:56"), 5 * MINUTE, "Asia/Kolkata") == at(
        "2026-01-01T12:30:00"
    )
    assert floor_one(-1, HOUR, "UTC") == -HOUR


def test_hop_0_does_not_round():
    assert floor_one(12_345, 0, "UTC") == 12_345


@pytest.mark.parametrize(
    ("zone", "moment", "start", "hours"),
    [
        ("Asia/Shanghai", "2026-06-01T00:00:00", "2026-06-01T00:00:00", 24),
        ("Europe/Berlin", "2026-03-29T23:59:59", "2026-03-29T00:00:00", 23),
        ("Europe/Berlin", "2026-10-25T23:59:59", "2026-10-25T00:00:00", 25),
        ("America/Sao_Paulo", "2018-11-04T12:00:00", "2018-11-04T01:00:00", 23),  # 0:00 is skipped
        ("America/Havana", "2025-11-02T12:00:00", "2025-11-02T00:00:00", 25),  # 0:00 comes twice
    ],
)
def test_a_day_is_a_local_day(zone, moment, start, hours):
    begin = floor_one(at(moment, zone), DAY, zone)
    assert begin == at(start, zone)
    assert floor_one(begin, DAY, zone) == begin
    assert floor_one(begin + hours * HOUR - 1, DAY, zone) == begin
    assert floor_one(begin + hours * HOUR, DAY, zone) == begin + hours * HOUR
    assert floor_one(begin - 1, DAY, zone) < begin


def test_several_days_count_from_1970():
    assert floor_one(at("1970-01-09T12:00:00"), 7 * DAY, "UTC") == at("1970-01-08T00:00:00")
    assert floor_one(at("1969-12-31T12:00:00"), 7 * DAY, "UTC") == at("1969-12-25T00:00:00")


@given(times, st.integers(1, 40), st.sampled_from(ZONES))
@settings(max_examples=200, deadline=None)
def test_days_are_what_the_calendar_says(time, days, name):
    zone = ZoneInfo(name)
    local = datetime.fromtimestamp(time // SECOND, zone).date()
    first = local - timedelta((local - date(1970, 1, 1)).days % days)
    midnight = datetime(first.year, first.month, first.day, tzinfo=zone)
    assert floor_one(time, days * DAY, name) == int(midnight.timestamp()) * SECOND


@given(
    st.lists(times, min_size=1, max_size=10),
    st.sampled_from([SECOND, 7 * MINUTE, DAY, 7 * DAY]),
    st.sampled_from(ZONES),
)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_time_without_gap_or_overlap(moments, hop, zone):
    moments = np.sort(np.array(moments))
    starts = floor_hop(moments, hop, zone)
    assert ((starts <= moments) & (moments < starts + hop + DAY)).all()
    assert (starts[:-1] <= starts[1:]).all()
    assert (floor_hop(starts, hop, zone) == starts).all()
    assert (floor_hop(starts - 1, hop, zone) < starts).all()
    assert [floor_hop(int(time), hop, zone) for time in moments] == starts.tolist()


def test_a_time_beyond_the_calendar_is_refused():
    for time in (2**62, -(2**62)):
        with pytest.raises(InputError, match="years"):
            floor_one(time, DAY, "UTC")


def test_an_unknown_zone_is_refused():
    with pytest.raises(ConfigError, match="Mars/Olympus"):
        floor_one(0, DAY, "Mars/Olympus")
