"""Operators of TensorFlow, in NumPy: products of matrices, and what makes one number of many."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import Array, Attributes, dtype_of, size_of

_EQUATION = re.compile(r"[A-Za-z.]*(,[A-Za-z.]*)*->[A-Za-z.]*")


def _reduce(combine: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that combines along axes; it stays of its type."""

    def reduce(attributes: Attributes, x: Array, axes: Array) -> Array:
        over = tuple(int(axis) for axis in axes.reshape(-1))
        kept = bool(attributes.get("keep_dims"))
        return np.asarray(combine(x, axis=over, keepdims=kept)).astype(x.dtype, copy=False)

    return reduce


def _norm(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


def _place(choose: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that says where along an axis something is."""

    def place(attributes: Attributes, x: Array, axis: Array) -> Array:
        found = choose(x, axis=int(axis))
        return np.asarray(found).astype(dtype_of(attributes.get("output_type", 9)))

    return place


def _running(combine: Callable[..., Any], start: int) -> Callable[..., Any]:
    """Return an operator that combines from the beginning up to each place."""

    def run(attributes: Attributes, x: Array, axis: Array) -> Array:
        along = int(axis)
        turned = np.flip(x, along) if attributes.get("reverse") else x
        found = combine(turned, axis=along).astype(x.dtype)
        if attributes.get("exclusive"):
            found = np.roll(found, 1, along)
            first: list[Any] = [slice(None)] * x.ndim
            first[along] = slice(0, 1)
            found[tuple(first)] = start
        return np.flip(found, along) if attributes.get("reverse") else found

    return run


def _turned(x: Array, turn: Any) -> Array:
    return np.swapaxes(x, -1, -2) if turn else x


def _matmul(attributes: Attributes, left: Array, right: Array) -> Array:
    return np.asarray(
        _turned(left, attributes.get("transpose_a", attributes.get("adj_x")))
        @ _turned(right, attributes.get("transpose_b", attributes.get("adj_y")))
    )


def _einsum(attributes: Attributes, *inputs: Array) -> Array:
    equation = attributes["equation"].decode()
    if not _EQUATION.fullmatch(equation):
        raise ValueError("an equation of it is none")
    return np.asarray(np.einsum(equation, *inputs, optimize=len(inputs) > 1))


def _bias(attributes: Attributes, x: Array, bias: Array) -> Array:
    if attributes.get("data_format") == b"NCHW":
        bias = bias.reshape(-1, *[1] * (x.ndim - 2))
    return np.asarray(x + bias)


def _softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _log_softmax(x: Array) -> Array:
    lower = x - x.max(axis=-1, keepdims=True)
    return np.asarray(lower - np.log(np.exp(lower).sum(axis=-1, keepdims=True)))


def _top(attributes: Attributes, x: Array, count: Array) -> tuple[Array, Array]:
    """Return the largest, the first of equals first."""
    places = np.argsort(-x, axis=-1, kind="stable")[..., : int(count)]
    kind = dtype_of(attributes.get("index_type", 3))
    return np.take_along_axis(x, places, -1), places.astype(kind)


def _in_top(predictions: Array, targets: Array, count: Array) -> Array:
    own = np.take_along_axis(predictions, targets[:, None], 1)
    return np.asarray((predictions > own).sum(1) < int(count))


def _count(attributes: Attributes, values: Array, size: Array, weights: Array) -> Array:
    """Return how often, or with what weight, each number up to a size comes, row by row."""
    rows = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    wanted = int(size)
    kind = weights.dtype
    if np.any(rows < 0):
        raise ValueError("what is counted is below 0")
    size_of((len(rows), wanted))
    found = np.zeros((len(rows), wanted), kind)
    heavy = weights.reshape(rows.shape) if weights.size else np.ones(rows.shape, kind)
    row, column = np.nonzero(rows < wanted)
    if attributes.get("binary_output"):
        found[row, rows[row, column]] = 1
    else:
        np.add.at(found, (row, rows[row, column]), heavy[row, column])
    return found if values.ndim == 2 else found[0]


def _segments(add: Any, start: float) -> Callable[..., Any]:
    def combine(x: Array, segments: Array, count: Array | None = None) -> Array:
        wanted = int(count) if count is not None else int(segments.max(initial=-1)) + 1
        shape = (wanted, *x.shape[segments.ndim :])
        size_of(shape)
        found = np.full(shape, start, x.dtype)
        flat, rows = segments.reshape(-1), x.reshape(-1, *x.shape[segments.ndim :])
        inside = flat >= 0
        add.at(found, flat[inside], rows[inside])
        return found

    return combine


PLAIN: Mapping[str, Callable[..., Any]] = {
    "InTopKV2": _in_top,
    "LogSoftmax": _log_softmax,
    "SegmentSum": _segments(np.add, 0),
    "Softmax": _softmax,
    "UnsortedSegmentSum": _segments(np.add, 0),
}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {
    "All": _reduce(np.all),
    "Any": _reduce(np.any),
    "ArgMax": _place(np.argmax),
    "ArgMin": _place(np.argmin),
    "BatchMatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "BiasAdd": _bias,
    "BiasAddV1": _bias,
    "Cumprod": _running(np.cumprod, 1),
    "Cumsum": _running(np.cumsum, 0),
    "DenseBincount": _count,
    "Einsum": _einsum,
    "EuclideanNorm": _reduce(_norm),
    "MatMul": _matmul,
    "Max": _reduce(np.max),
    "Mean": _reduce(np.mean),
    "Min": _reduce(np.min),
    "Prod": _reduce(np.prod),
    "Sum": _reduce(np.sum),
    "TopKV2": _top,
}
"""Operators that take their attributes first."""
