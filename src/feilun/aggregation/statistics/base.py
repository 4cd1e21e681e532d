"""What a statistic is: a type of row, and three short functions on rows.

A *row* is the state of one tile of one key: ``time`` says where it stands, the other columns are
the statistic's own. A row of a single event is a state as good as any, so folding is lifting each
event to a row and merging rows; nothing else computes. A new statistic is one more file like
these and one more line in the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from feilun.aggregation.frames import Array, Bool, Column, Int64, UInt64
from feilun.aggregation.segments import boundaries
from feilun.definitions.specs import DType, FeatureSpec


class Events(NamedTuple):
    """The events that a fold counts, as parallel arrays; ``values`` is None without a field."""

    time: Int64
    tie: UInt64
    values: Array | None

    @property
    def field(self) -> Array:
        """The values, for a statistic that cannot do without them."""
        if self.values is None:
            raise TypeError("this kind of aggregation needs a field")
        return self.values


class Window(NamedTuple):
    """What is read: the rows of the window, one segment a value. ``as_of``: one, or one each."""

    feature: FeatureSpec
    rows: Array
    offsets: Int64
    as_of: int | Int64

    @property
    def filled(self) -> Bool:
        """Which segments have rows."""
        return np.asarray(self.offsets[1:] > self.offsets[:-1])

    @property
    def everywhere(self) -> Bool:
        """True for every segment."""
        return np.ones(len(self.offsets) - 1, np.bool_)


class Statistic(ABC):
    """One kind of aggregation.

    Its state must be a function of the multiset of events: no order, split or retry may show.

    Parameters
    ----------
    dtype : str
        Of the field; means nothing without one.
    n : int
        How many events are kept, where events are kept.
    half_life : int
        In µs, where weights decay.
    """

    keeps_events: ClassVar[bool] = False
    """Rows are single events at their own times, not tiles of many."""

    fixed_size: ClassVar[bool] = True
    """Any number of rows can be reduced to one, whatever tiles they belong to."""

    identity: ClassVar[tuple[str, ...]] = ("time",)
    """The columns that, with the key, say which rows are one."""

    def __init__(self, dtype: DType, n: int = 1, half_life: int = 0) -> None:
        self.dtype = dtype
        self.n = n
        self.half_life = half_life
        self.row_type: np.dtype[np.void] = np.dtype([("time", "<i8"), *self.columns()])

    @property
    def value_type(self) -> str:
        """The little-endian type of the field's values."""
        return {"int": "<i8", "float": "<f8", "bool": "?", "str": "O"}[self.dtype]

    @abstractmethod
    def columns(self) -> list[tuple[str, str]]:
        """Return the names and little-endian types of its own columns."""

    @abstractmethod
    def lift(self, rows: Array, events: Events) -> None:
        """Fill ``rows``, whose ``time`` is set, with the states of one event each."""

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Return what orders rows of the same key and time, the most significant last."""
        return tuple(rank(rows[name]) for name in reversed(self.identity[1:]))

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Merge rows, sorted by key code, time and ``tie_breaks``, to what is kept of them."""
        starts = boundaries(codes, *(rows[name] for name in self.identity))
        if len(starts) == len(rows):
            return codes, rows
        return codes[starts], self.reduce(rows, starts)

    @abstractmethod
    def reduce(self, rows: Array, starts: Int64) -> Array:
        """Merge each run of rows that begins at ``starts`` into one row, in a new array."""

    def narrow(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Return the part of the sorted single-event rows ``[lo, hi)`` that decides the value."""
        return lo, hi

    @abstractmethod
    def finish(self, window: Window) -> Column:
        """Return one value for each segment, without regard to the default."""


def rank(values: Array) -> Array:
    """Return integers in the order of ``values``, equal only where those are equal to the bit.

    Examples
    --------
    >>> rank(np.array(["b", "a", "b"], dtype=object)).tolist()
    [1, 0, 1]
    >>> rank(np.array([1.0, 0.0, -0.0, -1.0, -2.0])).argsort().tolist()
    [4, 3, 2, 1, 0]
    """
    if values.dtype == object:
        texts = values.tolist()
        places = {text: place for place, text in enumerate(sorted(set(texts)))}
        return np.fromiter(map(places.__getitem__, texts), np.int64, len(texts))
    if values.dtype == np.float64:
        bits = values.view(np.int64)
        return bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return values


def pick(values: Array, index: Int64, present: Bool) -> Array:
    """Return ``values[index]`` where present; elsewhere NaN, 0, False or None."""
    filler = {"f": np.nan, "O": None}.get(values.dtype.kind, 0)
    picked = np.full(len(index), filler, values.dtype)
    picked[present] = values[index[present]]
    return picked


def per_row(of_segment: int | Int64, offsets: Int64) -> int | Int64:
    """Repeat what each segment has for each of its rows; one value for all stays one value."""
    if isinstance(of_segment, np.ndarray):
        return np.repeat(of_segment, np.diff(offsets))
    return of_segment
