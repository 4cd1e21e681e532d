"""The laws that every aggregation must obey, tried on a few examples: ``check_laws``.

For aggregations that a project brings along: it answers in words, within a third of a second, and
the same each time. What is built in is tried far harder by the project's own tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from feilun.aggregation.codec import decode, encode
from feilun.aggregation.family import Family
from feilun.aggregation.folding import fold, lift, merge
from feilun.aggregation.frames import Array, Column, EventFrame
from feilun.aggregation.past import read_past
from feilun.aggregation.plan import Plan
from feilun.aggregation.reading import read
from feilun.aggregation.tiles import Tiles
from feilun.clock import DAY, HOUR
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec
from feilun.errors import DefinitionError

_KEYS = (EntitySpec("key", "int"),)
_START = 20_000 * DAY
_END = _START + 6 * HOUR
_SIZES = (1, 3, 12, 40)
_CLOSE = 1e-9


def check_laws(spec: FoldSpec) -> list[str]:
    """Return what is wrong with an aggregation, each law that it breaks in a sentence.

    Parameters
    ----------
    spec : FoldSpec
        What is tried; its keys, filter and hop are replaced, for they are the kernel's own.

    Examples
    --------
    >>> check_laws(FoldSpec("count", "click", None, "int", (), 0, "UTC"))
    []
    """
    tried = replace(spec, keys=_KEYS, where=None, hop=HOUR)
    broken: dict[str, None] = {}
    for size in _SIZES:
        try:
            with np.errstate(all="ignore"):
                broken.update(dict.fromkeys(_broken(_Trial(tried, size))))
        except DefinitionError as error:
            return [*broken, *(f"{p.where}: {p.what}" for p in error.problems)]
    return list(broken)


class _Trial:
    """An aggregation, a few events of two keys over six hours, and how to compare states."""

    def __init__(self, spec: FoldSpec, size: int) -> None:
        self.plan = Plan((spec,))
        self.random = np.random.default_rng(size)
        self.events = _make_events(spec, size, self.random)
        self.features = [_make_feature(spec, window) for window in (None, HOUR, 4 * HOUR)]

    def fold(self, events: EventFrame) -> Tiles:
        """Fold events."""
        return fold(self.plan, events)

    def merge(self, a: Tiles, b: Tiles) -> Tiles:
        """Merge two states."""
        return merge(self.plan, a, b)

    def shuffled(self) -> EventFrame:
        """Return the events in another order."""
        return self.events.take(self.random.permutation(len(self.events)))

    def values(self, tiles: Tiles) -> list[Any]:
        """Return what is read of every key: from full windows, and from empty ones."""
        moments = (_END, _END + 3 * HOUR, _END + DAY)
        columns = [c for moment in moments for c in read(self.plan, tiles, self.features, moment)]
        return [value for column in columns for value in _values(column)]

    def past_values(self) -> list[Any]:
        """Return the same from the events, of which none was folded before."""
        keys = np.unique(self.events.columns["key"].values)
        known = np.full(len(keys), len(self.events))
        columns: list[Column] = []
        for moment in (_END, _END + 3 * HOUR, _END + DAY):
            as_of = np.full(len(keys), moment)
            columns += read_past(self.features, self.events, {"key": keys}, as_of, known)
        return [value for column in columns for value in _values(column)]


def _broken(trial: _Trial) -> Iterator[str]:
    """Yield what is broken on the events of one trial."""
    whole = trial.fold(trial.events)
    expected = trial.values(whole)
    for value in expected:
        if isinstance(value, float) and not math.isfinite(value):
            yield "A value that is said to be present is NaN or infinite."
            return
    if not _same(trial.values(trial.fold(trial.events)), expected):
        yield "The same events do not give the same value twice: it uses a clock or chance."
        return
    if not _same(trial.values(trial.fold(trial.shuffled())), expected):
        yield "The order of events shows in the value."
    shuffled = trial.shuffled()
    a, b, c = (trial.fold(shuffled.take(np.arange(len(shuffled)) % 3 == part)) for part in range(3))
    left = trial.values(trial.merge(trial.merge(a, b), c))
    if not _same(left, expected):
        yield "Merged states of parts are not the state of the whole: reduce cannot merge twice."
    if not _same(trial.values(trial.merge(a, trial.merge(b, c))), left):
        yield "Merging is not associative: (a + b) + c and a + (b + c) give different values."
    if not _same(trial.values(trial.merge(trial.merge(b, a), c)), left):
        yield "Merging is not commutative: a + b and b + a give different values."
    if not _same(trial.past_values(), expected):
        yield "Values from merged states are not those from single events."
    yield from _broken_rows(trial, whole, expected)


def _broken_rows(trial: _Trial, whole: Tiles, expected: list[Any]) -> Iterator[str]:
    """Yield what is broken of single rows, of bytes, and of windows beside others."""
    statistic = trial.plan.statistics[0]
    rows = lift(trial.plan, trial.events, trial.events.time)
    reduced = rows.copy()
    statistic.reduce(rows, np.arange(len(rows)), reduced)
    if not _same(_columns(reduced), _columns(rows)):
        yield "A single row does not reduce to itself."
    family = Family((trial.plan,))
    blobs = encode(family, [whole])
    if not _same(trial.values(decode(family, whole.keys, blobs)[0]), expected):
        yield "A state does not survive being stored: its columns are not plain numbers."
    several = Tiles(
        [b"", *whole.keys, b"\xff"], np.concatenate(([0], whole.offsets, whole.offsets[-1:])),
        whole.rows,
    )  # fmt: skip
    beside = trial.values(several)
    width = len(several.keys)
    alone = [value for at, value in enumerate(beside) if 0 < at % width < width - 1]
    if not _same(alone, expected):
        yield "Empty windows change the values of the windows beside them."


def _make_events(spec: FoldSpec, size: int, random: np.random.Generator) -> EventFrame:
    """Return events of which sums and squares are exact, so that no rounding hides a fault."""
    everywhere = np.ones(size, np.bool_)
    values: dict[str, Array] = {
        "int": random.integers(-50, 50, size),
        "float": random.integers(-8000, 8000, size) / 8.0,
        "bool": random.integers(0, 2, size).astype(np.bool_),
        "str": random.choice(np.array(["a", "b", "é", ""], object), size),
        "vector": random.integers(-80, 80, (size, max(spec.dim, 1))) / 8.0,
    }
    columns = {"key": Column(random.integers(0, 2, size), everywhere)}
    if spec.field is not None:
        columns[spec.field] = Column(values[spec.dtype], everywhere)
    return EventFrame(
        time=_START + random.integers(0, 6, size) * HOUR + random.integers(0, 4, size),
        tie=random.integers(0, 2**63, size).astype(np.uint64),
        known=random.permutation(size),
        columns=columns,
    )


def _make_feature(spec: FoldSpec, window: int | None) -> FeatureSpec:
    return FeatureSpec(
        view="laws",
        name=spec.kind,
        fold=spec,
        window=window,
        calendar=0,
        dtype=spec.dtype,
        is_list=False,
        n=1,
        default=None,
        ttl=None,
    )


def _values(column: Column) -> list[Any]:
    pairs = zip(column.values.tolist(), column.present.tolist(), strict=True)
    return [value if present else None for value, present in pairs]


def _columns(rows: Array) -> list[Any]:
    return [rows[name].tolist() for name in rows.dtype.names or ()]


def _same(a: Any, b: Any) -> bool:
    """Return whether both are the same, floats within rounding."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return type(a) is type(b) and bool(a == b)
