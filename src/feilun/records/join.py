"""The pure join of predictions with what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.definitions.specs import OutcomeSpec

Int64 = npt.NDArray[np.int64]


class Asked(NamedTuple):
    """One prediction: when (µs UTC), about whom, and which values of the key ``item`` it scored.

    Without an ``item`` it has one row, about its keys alone.
    """

    as_of: int
    keys: Mapping[str, int | str]
    item: str = ""
    items: Sequence[int | str] = ()


class Occurrences(NamedTuple):
    """Outcome events in any order: times (µs UTC) and columns of equal length.

    A column may be an array or a sequence; None where the event lacks the field. Late events do
    not belong here.
    """

    time: Int64
    columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]


class Joined(NamedTuple):
    """What is known of each prediction.

    Attributes
    ----------
    labels : float64 array
        One per row, the rows of the predictions one after the other: 0 or 1 for ``happened``, how
        many for ``count``, NaN while the prediction is not ripe. Unripe is never negative.
    rows : int64 array
        How many rows each prediction has.
    ripe : bool array
        Per prediction: whether the log's clock has passed ``as_of + within``.
    """

    labels: npt.NDArray[np.float64]
    rows: Int64
    ripe: npt.NDArray[np.bool_]


def join(outcome: OutcomeSpec, asked: Sequence[Asked], happened: Occurrences, clock: int) -> Joined:
    """Label every row of every prediction.

    An event counts for a row if it happened in ``[as_of, as_of + within)``, names the row's item,
    and has the prediction's value in each of its fields that is a key of the prediction. Keys
    that the event does not have are not compared. Time: O((rows + events) log events).

    Parameters
    ----------
    outcome : OutcomeSpec
        The window, and whether to count or only to note.
    asked : sequence of Asked
        The predictions.
    happened : Occurrences
        Events of ``outcome.event``.
    clock : int
        The log's clock: the newest receipt in the log, µs UTC.

    Examples
    --------
    >>> outcome = OutcomeSpec("click", within=10, measure="count")
    >>> clicks = Occurrences(np.array([5, 9, 14, 15]), {"user": [1, 1, 1, 2], "item": [7, 7, 7, 7]})
    >>> asked = [Asked(5, {"user": 1}, "item", [7, 8]), Asked(6, {"user": 1}, "item", [7])]
    >>> join(outcome, asked, clicks, clock=15)
    Joined(labels=array([ 3.,  0., nan]), rows=array([2, 1]), ripe=array([ True, False]))
    """
    as_of = np.array([one.as_of for one in asked], np.int64)
    rows = np.array([len(one.items) if one.item else 1 for one in asked], np.int64)
    ripe = as_of <= clock - outcome.within
    counts = np.zeros(int(rows.sum()), np.float64)
    firsts = np.cumsum(rows) - rows
    for (names, item), places in _by_names(asked, happened).items():
        chosen = [asked[place] for place in places]
        repeats = rows[places]
        positions = np.repeat(firsts[places] - np.cumsum(repeats) + repeats, repeats)
        positions += np.arange(len(positions))
        counts[positions] = _count(
            _codes(chosen, names, item, repeats, happened),
            np.repeat(as_of[places], repeats),
            outcome.within,
        )
    labels = np.minimum(counts, 1.0) if outcome.measure == "happened" else counts
    labels[~np.repeat(ripe, rows)] = np.nan
    return Joined(labels, rows, ripe)


class _Codes(NamedTuple):
    """Rows and events by the number of the key they are about; equal keys, equal numbers."""

    rows: Int64
    events: Int64
    times: Int64


def _by_names(
    asked: Sequence[Asked], happened: Occurrences
) -> dict[tuple[tuple[str, ...], str], list[int]]:
    """Group predictions by the columns in which they are compared."""
    groups: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for place, one in enumerate(asked):
        names = tuple(sorted(n for n in one.keys if n in happened.columns and n != one.item))
        groups.setdefault((names, one.item), []).append(place)
    return groups


def _codes(
    asked: Sequence[Asked],
    names: tuple[str, ...],
    item: str,
    repeats: Int64,
    happened: Occurrences,
) -> _Codes:
    """Give numbers to the (keys, item) pairs of events; rows of a pair never seen get -1."""
    keys: dict[tuple[Any, ...], int] = {}
    items: dict[Any, int] = {}
    compared = item if item in happened.columns else ""
    columns = [list(happened.columns[name]) for name in names]
    named = list(happened.columns[compared]) if compared else [0] * len(happened.time)
    key_of = [
        -1 if None in key else keys.setdefault(key, len(keys))
        for key in (zip(*columns, strict=True) if columns else [()] * len(happened.time))
    ]
    item_of = [-1 if one is None else items.setdefault(one, len(items)) for one in named]
    event_keys, event_items = np.array(key_of, np.int64), np.array(item_of, np.int64)
    whole = (event_keys >= 0) & (event_items >= 0)

    asked_keys = [keys.get(tuple(one.keys[name] for name in names), -1) for one in asked]
    if compared:
        asked_items = [items.get(value, -1) for one in asked for value in one.items]
    else:
        asked_items = [0] * int(repeats.sum())
    row_keys, row_items = (
        np.repeat(np.array(asked_keys, np.int64), repeats),
        np.array(asked_items, np.int64),
    )
    width = max(len(items), 1)
    rows = np.where((row_keys < 0) | (row_items < 0), -1, row_keys * width + row_items)
    events = (event_keys * width + event_items)[whole]
    return _Codes(rows, events, np.asarray(happened.time, np.int64)[whole])


def _count(codes: _Codes, as_of: Int64, within: int) -> Int64:
    """Count for each row the events of its code in ``[as_of, as_of + within)``.

    Times become ranks, so that (code, rank) fits one integer and one sorted search answers all.
    """
    moments = np.unique(codes.times)
    span = len(moments) + 1
    events = np.sort(codes.events * span + np.searchsorted(moments, codes.times))
    low = np.searchsorted(moments, as_of, "left")
    high = np.searchsorted(moments, as_of + within, "left")
    first = np.searchsorted(events, codes.rows * span + low, "left")
    last = np.searchsorted(events, codes.rows * span + high, "left")
    return np.where(codes.rows < 0, 0, last - first)
