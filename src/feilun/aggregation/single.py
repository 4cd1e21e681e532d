"""Values of one key, straight from its blob: a read of few numbers without arrays.

Array operations cost more to start than a few numbers cost to add. What is read here is what
``reading.read`` gives for the same blob; a law says so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from feilun.aggregation.codec import WORD, Lists, decode, words_of
from feilun.aggregation.family import Family
from feilun.aggregation.plan import Plan
from feilun.aggregation.reading import earliest, read, span_of
from feilun.aggregation.statistics import Statistic
from feilun.clock import DAY
from feilun.definitions.specs import FeatureSpec

Columns = Sequence[list[Any]]

_FORMATS = {"u": "Q", "f": "d"}


class _Asked(NamedTuple):
    """A feature, where to put its value, and what finishes it.

    ``choose`` takes the statistic's columns from those that are cut for its window.
    """

    at: int
    feature: FeatureSpec
    choose: Callable[[Columns], Columns]
    finish: Callable[[Columns, FeatureSpec, int], Any]


class _Span(NamedTuple):
    """A window, and the features that are read over it.

    ``words`` are those of a row that are cut after its time, each with the kind of its numbers.
    """

    start: Callable[[int], Any]
    words: list[tuple[int, str]]
    asked: list[_Asked]


class _OfPlan(NamedTuple):
    """What is asked of one plan: ``spans`` from plain numbers, ``others`` by arrays."""

    place: int
    plan: Plan
    width: int
    spans: list[_Span]
    others: list[tuple[int, FeatureSpec]]


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
        self._nothing = [None] * len(features)
        places: dict[int, list[tuple[int, FeatureSpec]]] = {}
        for at, feature in enumerate(features):
            places.setdefault(family.place_of(feature.fold)[0], []).append((at, feature))
        self._plans = [_of_plan(family, place, asked) for place, asked in places.items()]
        words = [word for of in self._plans for span in of.spans for word in span.words]
        self._kinds = {kind for _, kind in words} - {"i"}

    def read(self, blob: bytes, as_of: int) -> list[Any]:
        """Return the values at ``as_of`` (µs UTC); None where one is missing.

        Raises
        ------
        CorruptData
            If the blob cannot be read.
        """
        values: list[Any] = self._nothing.copy()
        words, begins = words_of(self._family, blob)
        numbers: dict[str, Any] = {"i": words}
        view: Any = memoryview(blob)
        for kind in self._kinds:
            numbers[kind] = Lists(view.cast(_FORMATS[kind]))
        for place, plan, width, spans, others in self._plans:
            begin, end = begins[place], begins[place + 1]
            times = words[begin:end:width]
            left = others
            for start_of, needed, asked in spans:
                start = start_of(as_of)
                out = 0 if start is None else bisect_left(times, start)
                low = begin + out * width
                columns = [times[out:]]
                columns += [numbers[kind][low + word : end : width] for word, kind in needed]
                for at, one, choose, finish in asked:
                    value = finish(choose(columns), one, as_of)
                    if value is NotImplemented:
                        left = [*left, (at, one)]
                    else:
                        values[at] = value
            if left:
                tiles = decode(self._family, [b""], [blob])[place]
                found = read(plan, tiles, [one for _, one in left], as_of)
                for (at, _), column in zip(left, found, strict=True):
                    if column.present[0]:
                        values[at] = column.values[:1].tolist()[0]
        return values


def _of_plan(family: Family, place: int, features: Sequence[tuple[int, FeatureSpec]]) -> _OfPlan:
    plan, kind = family.plans[place], family.stored_types[place]
    spans: dict[object, _Span] = {}
    others = []
    for at, feature in features:
        _, fold_place = family.place_of(feature.fold)
        statistic = plan.statistics[fold_place]
        if not _is_plain(statistic):
            others.append((at, feature))
            continue
        fields: Any = kind.fields
        span = spans.setdefault(span_of(feature), _Span(_start_of(feature), [], []))
        columns = [0]
        for own in (statistic.row_type.names or ())[1:]:
            name = plan.name_of(fold_place, own)
            word = (fields[name][1] // WORD, kind[name].kind)
            if word not in span.words:
                span.words.append(word)
            columns.append(span.words.index(word) + 1)
        span.asked.append(_Asked(at, feature, _chooser(columns), statistic.finish_one))
    return _OfPlan(place, plan, family.widths[place], list(spans.values()), others)


def _start_of(feature: FeatureSpec) -> Callable[[int], Any]:
    """Return what gives `earliest` of a moment; for most windows that is a subtraction."""
    window, hop = feature.window, feature.fold.hop
    if window is None or feature.calendar or feature.ttl is not None or hop % DAY == 0:
        return partial(earliest, feature)
    return lambda as_of: as_of - window - (as_of - window) % hop


def _chooser(places: Sequence[int]) -> Callable[[Columns], Columns]:
    """Return what takes the columns at these places."""
    if len(places) == 1:  # itemgetter gives an only one without a sequence around it
        return lambda columns: [columns[places[0]]]
    return itemgetter(*places)


def _is_plain(statistic: Statistic) -> bool:
    """Whether its rows are plain numbers, and it can finish lists of them."""
    kinds = [statistic.row_type[name] for name in statistic.row_type.names or ()]
    plain = all(not kind.shape and kind.kind in "iuf" for kind in kinds)
    return plain and type(statistic).finish_one is not Statistic.finish_one
