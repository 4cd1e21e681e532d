"""The oracle: what a feature's value is, in plain loops. It exists to be obviously right.

It shares nothing with the rest of the room but the encoding of keys, and how many hashes a tile of
``distinct`` keeps.
"""

from __future__ import annotations

import hashlib
import math
import operator
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from feilun.aggregation.frames import Array, EventFrame
from feilun.aggregation.keys import encode_key
from feilun.aggregation.statistics.distinct import Distinct
from feilun.definitions.specs import ConditionSpec, FeatureSpec, FoldSpec

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_LARGEST = Fraction(sys.float_info.max)
_64_BITS = 2**64 - 1


class _Event(NamedTuple):
    """One event that counts; in the order of events."""

    time: int
    tie: int
    value: Any


def naive(feature: FeatureSpec, events: EventFrame, key: bytes, as_of: int, known: int) -> Any:
    """Return the value for ``key`` at ``as_of``, from events with offset below ``known``.

    None where it is missing; the default is not applied. Floats are added exactly, a quantile is
    exact and so is ``top``: what the kernel may differ by is for the caller to know.
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
        if fold.where is not None and not _holds(fold.where, events, i):
            continue
        if time >= as_of or int(events.known[i]) >= known:
            continue
        if start is not None and time < start:
            continue
        if feature.ttl is not None and as_of - time >= feature.ttl:
            continue
        value = None if field is None else field.values[i : i + 1].tolist()[0]
        found.append(_Event(time, int(events.tie[i]), value))
    return _value(feature, found, as_of)


def _holds(condition: ConditionSpec, events: EventFrame, i: int) -> bool:
    if condition.op == "and":
        return all(_holds(part, events, i) for part in condition.parts)
    if condition.op == "or":
        return any(_holds(part, events, i) for part in condition.parts)
    if condition.op == "not":
        return not _holds(condition.parts[0], events, i)
    column = events.columns[condition.field]
    if not column.present[i]:
        return False
    value = column.values[i : i + 1].tolist()[0]
    if condition.op == "in":
        return value in condition.value
    compare = {
        "==": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
    return bool(compare[condition.op](value, condition.value))


def _value(feature: FeatureSpec, found: list[_Event], as_of: int) -> Any:  # noqa: PLR0911
    kind, values = feature.fold.kind, [event.value for event in found]
    if kind in ("count", "sum", "decayed", "distinct", "custom"):
        return _of_any(feature.fold, found, as_of)
    if not found:
        return None
    if kind in ("mean", "var", "std"):
        return _moment(feature.fold, values)
    if kind in ("first", "last", "top"):
        return _chosen(feature, found)
    if kind == "since_last":
        return (as_of - max(event.time for event in found)) / _SECOND
    ordered = sorted(values)
    if kind == "quantile":
        return float(ordered[math.floor(feature.quantile * (len(values) - 1))])
    return ordered[0] if kind == "min" else ordered[-1]


def _of_any(fold: FoldSpec, found: list[_Event], as_of: int) -> Any:
    """Return what has a value without events too."""
    values = [event.value for event in found]
    if fold.kind == "count":
        return len(found)
    if fold.kind == "sum":
        return _float(_sum(values)) if fold.dtype == "float" else _int(sum(values))
    if fold.kind == "decayed":
        half_lives = [(as_of - event.time) / fold.half_life for event in found]
        terms = [1.0 if fold.field is None else value for value in values]
        return _float(_sum(x * 2.0**-age for x, age in zip(terms, half_lives, strict=True)))
    if fold.kind == "distinct":
        return _distinct(fold, found)
    return _custom(fold, found, as_of)


def _chosen(feature: FeatureSpec, found: list[_Event]) -> Any:
    """Return values of some events."""
    if feature.fold.kind == "first":
        return min(found).value
    if feature.fold.kind == "last":
        chosen = [event.value for event in sorted(found, reverse=True)][: feature.fold.n]
    else:
        counts = Counter(event.value for event in found)
        chosen = sorted(counts, key=lambda value: (-counts[value], value))
    return chosen[: feature.n] if feature.is_list else chosen[0]


def _moment(fold: FoldSpec, values: list[Any]) -> Any:
    """Return the exact mean, variance or standard deviation of the sample, rounded at the end."""
    n = len(values)
    if fold.dtype == "vector":
        return [float(_sum(numbers) / n) for numbers in zip(*values, strict=True)]
    mean = _sum(values) / n
    if fold.kind == "mean":
        return float(mean)
    if n < 2:
        return None
    variance = _sum((Fraction(x) - mean) ** 2 for x in values) / (n - 1)
    if fold.kind == "var":
        return _float(variance)
    return _float(Fraction((Decimal(variance.numerator) / variance.denominator).sqrt()))


def _distinct(fold: FoldSpec, found: list[_Event]) -> int:
    """Count the hashes below the smallest θ of full tiles, and divide by their share of all."""
    tiles = defaultdict(set)
    for event in found:
        tiles[_tile(fold, event.time)].add(_hash(event.value))
    kept = [sorted(hashes)[: Distinct.kept] for hashes in tiles.values()]
    theta = min((hashes[-1] for hashes in kept if len(hashes) == Distinct.kept), default=2**64)
    below = {h for hashes in kept for h in hashes if h < theta}
    return round(Fraction(len(below) * 2**64, theta))


def _hash(value: Any) -> int:
    """Return SplitMix64's finalizer of a number's 64 bits, or BLAKE2b of a string."""
    if isinstance(value, str):
        digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")
    packed = struct.pack("<d", value + 0.0) if isinstance(value, float) else None
    bits = int.from_bytes(packed, "little") if packed else value & _64_BITS
    bits = (bits + 0x9E3779B97F4A7C15) & _64_BITS
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return bits ^ (bits >> 31)


def _custom(fold: FoldSpec, found: list[_Event], as_of: int) -> Any:
    """Let the aggregation finish its single events: nothing was reduced before."""
    own: Any = fold.custom and fold.custom.implementation
    rows = {name: np.zeros(len(found), of_type) for name, of_type in own.columns.items()}
    values: Array | None = None
    if fold.field is not None:
        of_type = {"int": np.int64, "float": np.float64, "bool": np.bool_}[fold.dtype]
        values = np.array([event.value for event in found], of_type)
    own.lift(rows, np.array([event.time for event in found], np.int64), values)
    result, present = own.finish(rows, np.array([0, len(found)]), as_of)
    return result.tolist()[0] if present[0] else None


def _sum(terms: Iterable[float | Fraction]) -> Fraction:
    return sum((Fraction(term) for term in terms), Fraction(0))


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
    return start if fold.hop == 0 else _tile(fold, start)


def _tile(fold: FoldSpec, time: int) -> int:
    """Return where the tile begins that ``time`` is in."""
    if fold.hop == 0:
        return 0
    if fold.hop % _DAY:
        return time // fold.hop * fold.hop
    day = _local_date(time, fold.timezone)
    beyond = (day - date(1970, 1, 1)).days % (fold.hop // _DAY)
    return _midnight(day - timedelta(beyond), fold.timezone)


def _local_date(time: int, timezone: str) -> date:
    seconds = time // _SECOND
    return datetime.fromtimestamp(seconds, ZoneInfo(timezone)).date()


def _midnight(day: date, timezone: str) -> int:
    moment = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(moment.timestamp()) * _SECOND
