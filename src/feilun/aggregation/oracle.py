"""The oracle: what a feature's value is, in plain loops. It exists to be obviously right.

It shares nothing with the rest of the room but the encoding of keys.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from feilun.aggregation.frames import EventFrame
from feilun.aggregation.keys import encode_key
from feilun.definitions.specs import FeatureSpec

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_LARGEST = Fraction(sys.float_info.max)


def naive(feature: FeatureSpec, events: EventFrame, key: bytes, as_of: int, known: int) -> Any:
    """Return the value for ``key`` at ``as_of``, from events with offset below ``known``.

    None where it is missing; the default is not applied. Floats are added exactly.
    """
    fold = feature.fold
    start = _start(feature, as_of)
    found = []
    for i in range(len(events)):
        time = int(events.time[i])
        columns = [events.columns[entity.name] for entity in fold.keys]
        field = None if fold.field is None else events.columns[fold.field]
        if not all(column.present[i] for column in columns):
            continue
        if encode_key(fold.keys, [column.values[i] for column in columns]) != key:
            continue
        if field is not None and not field.present[i]:
            continue
        if time >= as_of or int(events.known[i]) >= known:
            continue
        if start is not None and time < start:
            continue
        if feature.ttl is not None and as_of - time >= feature.ttl:
            continue
        value = None if field is None else field.values[i : i + 1].tolist()[0]
        found.append((time, int(events.tie[i]), value))
    return _value(feature, found, as_of)


def _value(feature: FeatureSpec, found: list[tuple[int, int, Any]], as_of: int) -> Any:
    fold, values = feature.fold, [value for _, _, value in found]
    value: Any = None
    if fold.kind == "count":
        value = len(found)
    elif fold.kind == "sum":
        value = _float(_sum(values)) if fold.dtype == "float" else _int(sum(values))
    elif fold.kind == "decayed":
        half_lives = [(as_of - time) / fold.half_life for time, _, _ in found]
        terms = [1.0 if fold.field is None else value for value in values]
        value = _float(_sum(x * 2.0**-age for x, age in zip(terms, half_lives, strict=True)))
    elif not found:
        value = None
    elif fold.kind == "mean":
        value = float(_sum(values) / len(values))
    elif fold.kind == "min":
        value = min(values)
    elif fold.kind == "max":
        value = max(values)
    elif fold.kind == "since_last":
        value = (as_of - max(time for time, _, _ in found)) / _SECOND
    elif fold.kind == "top":
        ranked = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
        best = [value for value, _ in ranked]
        value = best[: feature.n] if feature.is_list else best[0]
    elif fold.kind == "first":
        value = min(found)[2]
    elif fold.kind == "last":
        newest = [value for _, _, value in sorted(found, reverse=True)]
        value = newest[: min(fold.n, feature.n)] if feature.is_list else newest[0]
    return value


def _sum(terms: Iterable[float]) -> Fraction:
    return sum(map(Fraction, terms), Fraction(0))


def _float(exact: Fraction) -> float:
    return float(max(-_LARGEST, min(_LARGEST, exact)))


def _int(exact: int) -> int:
    return max(-(2**63), min(2**63 - 1, exact))


def _start(feature: FeatureSpec, as_of: int) -> int | None:
    fold = feature.fold
    if feature.calendar:
        today = _local_date(as_of, fold.timezone)
        start = _midnight(today - timedelta(feature.calendar - 1), fold.timezone)
    elif feature.window is not None:
        start = as_of - feature.window
    else:
        return None
    if fold.hop == 0:
        return start
    if fold.hop % _DAY:
        return start // fold.hop * fold.hop
    day = _local_date(start, fold.timezone)
    beyond = (day - date(1970, 1, 1)).days % (fold.hop // _DAY)
    return _midnight(day - timedelta(beyond), fold.timezone)


def _local_date(time: int, timezone: str) -> date:
    seconds = time // _SECOND
    return datetime.fromtimestamp(seconds, ZoneInfo(timezone)).date()


def _midnight(day: date, timezone: str) -> int:
    moment = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(moment.timestamp()) * _SECOND
