"""Times as files and databases write them: numbers, datetimes, dates, text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, overload
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_time(value: object, zone: ZoneInfo) -> int:
    """Return a time in µs UTC.

    Parameters
    ----------
    value : object
        An int or its digits (µs UTC), a datetime, a date (its midnight), or ISO 8601.
    zone : ZoneInfo
        Of times that do not say theirs.

    Raises
    ------
    ValueError
        If it is not a time.

    Examples
    --------
    >>> shanghai = ZoneInfo("Asia/Shanghai")
    >>> to_time("1970-01-01 08:00:01", shanghai), to_time("1970-01-01T00:00:01Z", shanghai)
    (1000000, 1000000)
    """
    if isinstance(value, str):
        value = int(value) if value.isdecimal() else datetime.fromisoformat(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, date):
        raise ValueError(f"{value!r} is not a time")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    aware = value if value.tzinfo else value.replace(tzinfo=zone)
    return (aware - _EPOCH) // _MICROSECOND


@overload
def to_time_like(sample: str, time: int, zone: ZoneInfo) -> str: ...
@overload
def to_time_like(sample: Any, time: int, zone: ZoneInfo) -> Any: ...
def to_time_like(sample: Any, time: int, zone: ZoneInfo) -> Any:
    """Write ``time`` (µs UTC) as ``sample`` is written, to compare it with others of its kind.

    Text and dates are rounded down: to the second, or to the day if the sample has no more.

    Raises
    ------
    ValueError
        If the sample is not a time.

    Examples
    --------
    >>> shanghai = ZoneInfo("Asia/Shanghai")
    >>> to_time_like("2024-05-01T09:30:00.123Z", 1_500_000, shanghai)
    '1970-01-01T00:00:01'
    >>> to_time_like("2024-05-01 09:30", 1_500_000, shanghai)
    '1970-01-01 08:00:01'
    """
    to_time(sample, zone)
    if isinstance(sample, int):
        return time
    if isinstance(sample, str):
        return str(time) if sample.isdecimal() else _text_like(sample, time, zone)
    if not isinstance(sample, datetime):
        return _moment(time).astimezone(zone).date()
    if sample.tzinfo is not None:
        return _moment(time)
    return _moment(time).astimezone(zone).replace(tzinfo=None)


def _text_like(sample: str, time: int, zone: ZoneInfo) -> str:
    own = datetime.fromisoformat(sample).tzinfo or zone
    text = _moment(time).astimezone(own).strftime("%Y-%m-%d %H:%M:%S")
    return text[:10] if len(sample) <= 10 else text.replace(" ", sample[10])


def _moment(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)
