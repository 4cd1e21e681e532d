"""What a statistic is: a type of row, and three short functions on rows.

A *row* is the state of one tile of one key: ``time`` says where it stands, the other columns are
the statistic's own. A row of a single event is a state as good as any, so folding is lifting each
event to a row and merging rows; nothing else computes. A new statistic is one more file like
these and one more line in the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from feilun.aggregation.frames import Array, Bool, Column, Int64, UInt64
from feilun.aggregation.hops import floor_hop
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


StateColumn = tuple[str, str] | tuple[str, str, tuple[int]]
"""A name, a little-endian type, and the length of a vector."""


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
    dim : int
        The length of a vector.
    """

    keeps_events: ClassVar[bool] = False
    """Rows are single events at their own times, not tiles of many."""

    fixed_size: ClassVar[bool] = True
    """Any number of rows can be reduced to one, whatever tiles they belong to."""

    shares_rows: bool = True
    """It has one row a tile, in any order of its events, so that others of the same tiles can have
    their columns in the same rows. ``row_type`` then holds no objects."""

    identity: ClassVar[tuple[str, ...]] = ("time",)
    """The columns that, with the key, say which rows are one."""

    def __init__(self, dtype: DType, n: int = 1, half_life: int = 0, dim: int = 0) -> None:
        self.dtype = dtype
        self.n = n
        self.half_life = half_life
        self.dim = dim
        self.row_type: np.dtype[np.void] = np.dtype([("time", "<i8"), *self.columns()])

    def values(self, name: str) -> StateColumn:
        """Return a column of values of the field, in its own type."""
        if self.dtype == "vector":
            return (name, "<f8", (self.dim,))
        return (name, {"int": "<i8", "float": "<f8", "bool": "?", "str": "O"}[self.dtype])

    @abstractmethod
    def columns(self) -> list[StateColumn]:
        """Return its own columns."""

    @abstractmethod
    def lift(self, rows: Array, events: Events) -> None:
        """Fill ``rows``, whose ``time`` is set, with the states of one event each."""

    def tie_breaks(self, rows: Array) -> tuple[Array, ...]:
        """Return what orders rows of the same key and time, the most significant last."""
        return tuple(rank(rows[name]) for name in reversed(self.identity[1:]))

    def compact(self, codes: Int64, rows: Array) -> tuple[Int64, Array]:
        """Merge rows, sorted by key code, time and ``tie_breaks``, to what is kept of them."""
        starts = boundaries(codes, *(rows[name] for name in self.identity))
        return codes[starts], self.merged(rows, starts)

    def merged(self, rows: Array, starts: Int64) -> Array:
        """Return one row for each run of rows that begins at ``starts``."""
        if len(starts) == len(rows):
            return rows
        merged: Array = rows[starts]
        self.reduce(rows, starts, merged)
        return merged

    @abstractmethod
    def reduce(self, rows: Array, starts: Int64, merged: Array) -> None:
        """Merge each run of rows that begins at ``starts`` into one row of ``merged``.

        ``merged`` comes with a copy of the first row of each run.
        """

    def tiles(self, window: Window) -> tuple[Int64, Array]:
        """Return the rows of a window as a fold has them, tile by tile, with their segments.

        Reads of the past bring single events. Where a tile keeps only so many rows, what it would
        have kept is all that an online read can see.
        """
        fold, rows = window.feature.fold, window.rows.copy()
        codes = np.repeat(np.arange(len(window.offsets) - 1), np.diff(window.offsets))
        rows["time"] = floor_hop(rows["time"], fold.hop, fold.timezone) if fold.hop else 0
        order = np.lexsort((*self.tie_breaks(rows), rows["time"], codes))
        return self.compact(codes[order], rows[order])

    @property
    def columnwise(self) -> Mapping[str, np.ufunc] | None:
        """How each column merges, where every one merges by itself; None where they do not."""
        return None

    @property
    def loop(self) -> str | None:
        """What the compiled loops call its value; None where only NumPy finds it."""
        return None

    @property
    def merges(self) -> Sequence[str] | None:
        """What the compiled loops call the way in which each of its own columns merges."""
        return None

    def narrow(self, lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
        """Return the part of the sorted single-event rows ``[lo, hi)`` that decides the value."""
        return lo, hi

    @abstractmethod
    def finish(self, window: Window) -> Column:
        """Return one value for each segment, without regard to the default."""

    def finish_one(
        self, _columns: Sequence[list[Any]], _feature: FeatureSpec, _as_of: int, /
    ) -> Any:
        """Return the value of one key, as ``finish`` would: None where it is missing.

        For a single key plain loops are many times faster than arrays. Not asked for where a
        column is of booleans or vectors. Sums of floats may be rounded in another order.

        Parameters
        ----------
        _columns : sequence of list
            The columns of the window's rows: ``time``, then its own in their order.
        _feature : FeatureSpec
            What is read.
        _as_of : int
            Now, µs UTC.

        Returns
        -------
        object
            ``NotImplemented`` if this statistic, or these rows, need ``finish``.
        """
        return NotImplemented


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


def rank_vectors(vectors: Array, tie: UInt64) -> Int64:
    """Return integers in the order of the rows of ``vectors``, where rows have the same ``tie``.

    Two events hardly ever have one tie, so hardly any vectors are compared.

    Examples
    --------
    >>> vectors = np.array([[1.0, 2.0], [9.0, 9.0], [1.0, -2.0]])
    >>> rank_vectors(vectors, np.array([7, 8, 7], np.uint64)).tolist()
    [1, 0, 0]
    """
    ranks = np.zeros(len(tie), np.int64)
    _, of_tie, counts = np.unique(tie, return_inverse=True, return_counts=True)
    doubtful = np.flatnonzero(counts[of_tie] > 1)
    keys = [tuple(each) for each in rank(vectors[doubtful]).tolist()]
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    ranks[doubtful] = [places[key] for key in keys]
    return ranks


def pick(values: Array, index: Int64, present: Bool) -> Array:
    """Return ``values[index]`` where present; elsewhere NaN, 0, False or None."""
    filler = {"f": np.nan, "O": None}.get(values.dtype.kind, 0)
    picked = np.full((len(index), *values.shape[1:]), filler, values.dtype)
    picked[present] = values[index[present]]
    return picked


def per_row(of_segment: int | Int64, offsets: Int64) -> int | Int64:
    """Repeat what each segment has for each of its rows; one value for all stays one value."""
    if isinstance(of_segment, np.ndarray):
        return np.repeat(of_segment, np.diff(offsets))
    return of_segment
