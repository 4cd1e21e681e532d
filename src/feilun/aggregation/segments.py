"""Runs of rows: the array idioms that fold, merge and read are made of.

A *segment* is a run of neighbouring rows; ``offsets`` of K segments has K + 1 entries, and
segment k is ``rows[offsets[k]:offsets[k + 1]]``. Nothing here knows what a row means.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from feilun.aggregation.frames import Array, Bool, Int64

_FEW = 256
"""So few rows are sorted in less time than it takes to find out how to sort them faster."""


def order_of(numbers: Int64) -> Int64:
    """Return the stable order of numbers that are not negative.

    Sorting numbers is several times faster than sorting their places, so each number takes its
    place along in its low bits, where there is room.

    Examples
    --------
    >>> order_of(np.array([3, 1, 3, 0])).tolist()
    [3, 1, 0, 2]
    """
    bits = max(len(numbers) - 1, 0).bit_length()
    if not len(numbers) or int(numbers.max()) >= 1 << (63 - bits):
        return numbers.argsort(kind="stable")
    packed = numbers << bits
    packed |= np.arange(len(numbers))
    packed.sort()
    packed &= (1 << bits) - 1
    return packed


def order_by(codes: Int64, times: Int64) -> Int64:
    """Return the stable order by code, then time; codes are not negative.

    Examples
    --------
    >>> order_by(np.array([1, 0, 1]), np.array([5, 9, -4])).tolist()
    [1, 2, 0]
    """
    if len(times) <= _FEW:
        return np.lexsort((times, codes))
    first = int(times.min())
    span = int(times.max()) - first + 1
    bits = (len(times) - 1).bit_length()
    if (int(codes.max()) + 1) * span < 1 << (63 - bits):
        return order_of(codes * span + (times - first))
    if span > 1 << 62:
        return np.lexsort((times, codes))
    if (times[1:] >= times[:-1]).all():
        return order_of(codes)
    by_time = order_of(times - first)
    return by_time[order_of(codes[by_time])]


def break_ties(
    order: Int64, codes: Int64, times: Int64, ties: Callable[[Int64], tuple[Array, ...]]
) -> Int64:
    """Return ``order``, which is by code and time, with equal rows ordered further.

    ``ties`` returns what orders the rows at some places, the most significant last.
    """
    same = ~begins(codes[order], times[order]) if len(order) else np.zeros(0, np.bool_)
    if not same.any():
        return order
    runs = np.cumsum(~same)
    same[:-1] |= same[1:]
    tied = same.nonzero()[0]
    keys = ties(order[tied])
    if not keys:
        return order
    order = order.copy()
    order[tied] = order[tied][np.lexsort((*keys, runs[tied]))]
    return order


def begins(*columns: Array) -> Bool:
    """Return which rows differ in some column from the row before; the first does.

    Examples
    --------
    >>> begins(np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6])).tolist()
    [True, False, True, True]
    """
    first = np.ones(len(columns[0]), np.bool_)
    np.not_equal(columns[0][1:], columns[0][:-1], out=first[1:])
    for column in columns[1:]:
        first[1:] |= column[1:] != column[:-1]
    return first


def boundaries(*columns: Array) -> Int64:
    """Return where each run of rows that agree in every column begins.

    Examples
    --------
    >>> boundaries(np.array([1, 1, 2, 2])).tolist()
    [0, 2]
    """
    return begins(*columns).nonzero()[0]


def expand(lo: Int64, hi: Int64) -> tuple[Int64, Int64]:
    """Return the indices of the ranges ``[lo, hi)`` one after the other, and their offsets.

    Examples
    --------
    >>> index, offsets = expand(np.array([4, 0, 7]), np.array([6, 0, 8]))
    >>> index.tolist(), offsets.tolist()
    ([4, 5, 7], [0, 2, 2, 3])
    """
    sizes = hi - lo
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    index = np.repeat(lo - offsets[:-1], sizes)
    index += np.arange(offsets[-1])
    return index, offsets


def reduce_segments(ufunc: np.ufunc, values: Array, offsets: Int64, empty: object) -> Array:
    """Reduce each segment with ``ufunc``; an empty segment gives ``empty``.

    Examples
    --------
    >>> reduce_segments(np.add, np.array([1, 2, 3]), np.array([0, 2, 2, 3]), 0).tolist()
    [3, 0, 3]
    """
    starts = offsets[:-1]
    filled = offsets[1:] > starts
    if np.count_nonzero(filled) == len(values):  # each is one row, or none
        reduced = values.copy()
    else:
        reduced = np.asarray(ufunc.reduceat(values, starts[filled]))
    if filled.all():
        return reduced
    result = np.full((len(starts), *values.shape[1:]), empty, values.dtype)
    result[filled] = reduced
    return result


def newest(codes: Int64, n: int) -> Int64:
    """Return the indices of the last ``n`` rows of each run of equal ``codes``.

    Examples
    --------
    >>> newest(np.array([0, 0, 0, 1]), 2).tolist()
    [1, 2, 3]
    """
    starts = boundaries(codes)
    ends = np.append(starts[1:], len(codes))
    return expand(np.maximum(starts, ends - n), ends)[0]
