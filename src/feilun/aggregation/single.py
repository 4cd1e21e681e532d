"""Values of one key, straight from its blob: a read of few numbers without arrays.

Array operations cost more to start than a few numbers cost to add. What is read here is what
``reading.read`` gives for the same blob; a law says so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from feilun.aggregation.codec import WORD, StoredTiles, begins_of
from feilun.aggregation.family import Family
from feilun.aggregation.plan import Plan
from feilun.aggregation.reading import earliest, read
from feilun.aggregation.statistics import Statistic
from feilun.definitions.specs import FeatureSpec

Span = tuple[int | None, int, int | None]


class _Asked(NamedTuple):
    """A feature, where to put its value, its window, and the columns that its statistic reads.

    ``columns`` are places among the columns of numbers that are taken from the plan's rows.
    """

    at: int
    feature: FeatureSpec
    statistic: Statistic
    span: Span
    columns: list[int]


class _OfPlan(NamedTuple):
    """What is asked of one plan: ``quick`` from plain numbers, ``others`` by arrays.

    ``columns`` are the words of a row that are needed, each with the kind of number it is.
    """

    place: int
    plan: Plan
    width: int
    quick: list[_Asked]
    others: list[_Asked]
    columns: list[tuple[int, str]]
    spans: dict[Span, FeatureSpec]


class KeyReader:
    """Reads a fixed list of features, all of one family, for one key at a time.

    Parameters
    ----------
    family : Family
        Where they are stored.
    features : sequence of FeatureSpec
        What to read.
    """

    def __init__(self, family: Family, features: Sequence[FeatureSpec]) -> None:
        self._family = family
        self._size = len(features)
        places: dict[int, list[int]] = {}
        for at, feature in enumerate(features):
            places.setdefault(family.place_of(feature.fold)[0], []).append(at)
        self._asked = [_of_plan(family, place, features, ats) for place, ats in places.items()]

    def read(self, blob: bytes, as_of: int) -> list[Any]:
        """Return the values at ``as_of`` (µs UTC); None where one is missing.

        Raises
        ------
        CorruptData
            If the blob cannot be read.
        """
        values: list[Any] = [None] * self._size
        begins = begins_of(self._family, blob)
        view = memoryview(blob)
        views: dict[str, memoryview[Any]] = {
            "i": view.cast("q"),
            "u": view.cast("Q"),
            "f": view.cast("d"),
        }
        for asked in self._asked:
            begin, end = begins[asked.place], begins[asked.place + 1]
            others = asked.others
            if asked.quick:
                columns = [
                    views[kind][begin + word : end : asked.width].tolist()
                    for word, kind in asked.columns
                ]
                others = others + _read_quick(asked, columns, as_of, values)
            if others:
                self._read_arrays(asked, others, blob, as_of, values)
        return values

    def _read_arrays(
        self, of: _OfPlan, asked: Sequence[_Asked], blob: bytes, as_of: int, values: list[Any]
    ) -> None:
        tiles = StoredTiles(self._family, [b""], [blob]).tiles(of.place)
        columns = read(of.plan, tiles, [one.feature for one in asked], as_of)
        for one, column in zip(asked, columns, strict=True):
            if column.present[0]:
                values[one.at] = column.values[:1].tolist()[0]


def _read_quick(
    asked: _OfPlan, columns: Sequence[list[Any]], as_of: int, values: list[Any]
) -> list[_Asked]:
    """Fill in what plain numbers give; return the features of which the rows need arrays."""
    lows = {}
    for span, feature in asked.spans.items():
        start = earliest(feature, as_of)
        lows[span] = 0 if start is None else bisect_left(columns[0], start)
    left: list[_Asked] = []
    for one in asked.quick:
        own = [columns[place] for place in one.columns]
        value = one.statistic.finish_one(own, lows[one.span], one.feature, as_of)
        if value is NotImplemented:
            left.append(one)
        else:
            values[one.at] = value
    return left


def _of_plan(
    family: Family, place: int, features: Sequence[FeatureSpec], ats: Sequence[int]
) -> _OfPlan:
    plan, kind = family.plans[place], family.stored_types[place]
    fields: Any = kind.fields
    asked = _OfPlan(place, plan, family.widths[place], [], [], [(0, "i")], {})
    found = {"time": 0}
    for at in ats:
        feature = features[at]
        span = (feature.window, feature.calendar, feature.ttl)
        _, fold_place = family.place_of(feature.fold)
        statistic = plan.statistics[fold_place]
        if not _is_quick(statistic):
            asked.others.append(_Asked(at, feature, statistic, span, []))
            continue
        columns = []
        for own in statistic.row_type.names or ():
            name = plan.name_of(fold_place, own)
            if name not in found:
                found[name] = len(found)
                asked.columns.append((fields[name][1] // WORD, kind[name].kind))
            columns.append(found[name])
        asked.spans.setdefault(span, feature)
        asked.quick.append(_Asked(at, feature, statistic, span, columns))
    return asked


def _is_quick(statistic: Statistic) -> bool:
    """Whether its rows are plain numbers, and it can finish lists of them."""
    kinds = [statistic.row_type[name] for name in statistic.row_type.names or ()]
    plain = all(not kind.shape and kind.kind in "iuf" for kind in kinds)
    return plain and type(statistic).finish_one is not Statistic.finish_one
