"""Operators of TensorFlow, in NumPy: sparse tensors, as feature columns have them.

A sparse tensor is three: the places of its values, in order, the values, and a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import Array, size_of
from feilun.adapters.tensorflow.shapes import within


def _reshape(places: Array, shape: Array, wanted: Array) -> tuple[Array, Array]:
    old, new = [int(each) for each in shape], [int(each) for each in wanted]
    if -1 in new:
        rest = -int(np.prod(new))
        new[new.index(-1)] = int(np.prod(old)) // rest if rest else 0
    if np.prod(old) != np.prod(new):
        raise ValueError("a sparse tensor is given a shape of another size")
    if not len(places):
        return np.empty((0, len(new)), np.int64), np.array(new, np.int64)
    flat = np.ravel_multi_index(tuple(places.T), old)
    return np.stack(np.unravel_index(flat, new), 1).astype(np.int64), np.array(new, np.int64)


def _fill_rows(places: Array, values: Array, shape: Array, default: Array) -> tuple[Array, ...]:
    """Return the same with one default in each empty row, the rows that were, and what is where."""
    rows = int(shape[0])
    size_of((rows,))
    own = within(places[:, 0], rows)
    empty = np.ones(rows, bool)
    empty[own] = False
    added = np.zeros((int(empty.sum()), places.shape[1]), np.int64)
    added[:, 0] = np.nonzero(empty)[0]
    order = np.argsort(np.concatenate([own, added[:, 0]]), kind="stable")
    all_places = np.concatenate([places, added])[order]
    all_values = np.concatenate([values, np.full(len(added), default, values.dtype)])[order]
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return all_places, all_values, empty, back[: len(places)]


def _combine(divide: Callable[[Array], Array]) -> Callable[..., Array]:
    """Return an operator that sums the chosen rows of each segment, and divides by their number."""

    def combine(x: Array, places: Array, segments: Array, count: Array | None = None) -> Array:
        wanted = int(count) if count is not None else int(segments.max(initial=-1)) + 1
        size_of((wanted, *x.shape[1:]))
        found = np.zeros((wanted, *x.shape[1:]), x.dtype)
        np.add.at(found, within(segments, wanted), x[within(places, len(x))])
        members = np.maximum(np.bincount(segments.reshape(-1), minlength=wanted), 1)
        by = divide(members).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return np.asarray(found / by)

    return combine


def _dense(places: Array, shape: Array, values: Array, default: Array) -> Array:
    sizes = tuple(int(each) for each in np.reshape(shape, -1))
    size_of(sizes)
    found = np.full(sizes, default, values.dtype)
    places = places.reshape(-1, len(sizes))
    found[tuple(within(places[:, at], size) for at, size in enumerate(sizes))] = values
    return found


_sum, _mean, _root = _combine(np.ones_like), _combine(lambda members: members), _combine(np.sqrt)

PLAIN: Mapping[str, Callable[..., Any]] = {
    "SparseFillEmptyRows": _fill_rows,
    "SparseReshape": _reshape,
    "SparseSegmentMean": _mean,
    "SparseSegmentMeanWithNumSegments": _mean,
    "SparseSegmentSqrtN": _root,
    "SparseSegmentSqrtNWithNumSegments": _root,
    "SparseSegmentSum": _sum,
    "SparseSegmentSumWithNumSegments": _sum,
    "SparseToDense": _dense,
}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {}
"""Operators that take their attributes first."""
