"""Operators of TensorFlow, in NumPy: convolutions, pooling, stored statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import Array, Attributes, size_of


def _check(attributes: Attributes) -> None:
    if attributes.get("data_format", b"NHWC") != b"NHWC":
        raise ValueError("it has its channels first; build it with data_format='channels_last'")


def _padding(
    attributes: Attributes, sizes: tuple[int, int], spans: tuple[int, int], steps: tuple[int, int]
) -> list[tuple[int, int]]:
    """Return what is put before and after both axes; a span is how much a window covers."""
    mode = attributes["padding"]
    if mode == b"VALID":
        return [(0, 0), (0, 0)]
    if mode == b"EXPLICIT":
        said = attributes["explicit_paddings"]
        return [(said[2], said[3]), (said[4], said[5])]
    found = []
    for size, span, step in zip(sizes, spans, steps, strict=True):
        missing = max((-(-size // step) - 1) * step + span - size, 0)
        found.append((missing // 2, missing - missing // 2))
    return found


def _windows(
    attributes: Attributes, x: Array, kernel: tuple[int, int], rates: tuple[int, int], fill: float
) -> Array:
    """Return ``[rows, height, width, channels, kernel height, kernel width]``, a view."""
    _check(attributes)
    steps = _steps(attributes)
    spans = (kernel[0] - 1) * rates[0] + 1, (kernel[1] - 1) * rates[1] + 1
    pads = _padding(attributes, x.shape[1:3], spans, steps)
    if any(min(pair) < 0 for pair in pads) or min(steps) < 1 or min(rates) < 1:
        raise ValueError("a convolution has impossible steps")
    size_of((*x.shape[:1], *(s + sum(p) for s, p in zip(x.shape[1:3], pads, strict=True)), 1))
    if any(map(any, pads)):
        x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(x, spans, (1, 2))
    return seen[:, :: steps[0], :: steps[1], :, :: rates[0], :: rates[1]]


def _steps(attributes: Attributes) -> tuple[int, int]:
    _, down, across, _ = attributes["strides"]
    return down, across


def _rates(attributes: Attributes) -> tuple[int, int]:
    found = attributes.get("dilations") or [1, 1, 1, 1]
    return found[1], found[2]


def _conv(attributes: Attributes, x: Array, kernel: Array) -> Array:
    if x.shape[-1] != kernel.shape[2]:
        return _conv_groups(attributes, x, kernel)
    seen = _windows(attributes, x, kernel.shape[:2], _rates(attributes), 0)
    return np.asarray(np.tensordot(seen, kernel, ((3, 4, 5), (2, 0, 1))))


def _conv_groups(attributes: Attributes, x: Array, kernel: Array) -> Array:
    groups = x.shape[-1] // kernel.shape[2]
    if groups * kernel.shape[2] != x.shape[-1] or kernel.shape[3] % max(groups, 1):
        raise ValueError("a convolution does not fit its input")
    pairs = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    return np.concatenate([_conv(attributes, part, own) for part, own in pairs], -1)


def _depthwise(attributes: Attributes, x: Array, kernel: Array) -> Array:
    seen = _windows(attributes, x, kernel.shape[:2], _rates(attributes), 0)
    found = np.einsum("nhwcij,ijcm->nhwcm", seen, kernel, optimize=True)
    return np.asarray(found.reshape(*found.shape[:3], -1))


def _conv_back(attributes: Attributes, shape: Array, kernel: Array, x: Array) -> Array:
    """Return a transposed convolution: each number is spread over a window."""
    _check(attributes)
    if _rates(attributes) != (1, 1):
        raise ValueError("it has a transposed convolution with holes")
    rows, height, width, channels = (int(each) for each in shape)
    steps = _steps(attributes)
    tall, wide = kernel.shape[:2]
    (top, bottom), (left, right) = _padding(attributes, (height, width), (tall, wide), steps)
    full = (rows, height + top + bottom, width + left + right, channels)
    size_of(full)
    found = np.zeros(full, x.dtype)
    for i in range(tall):
        for j in range(wide):
            part = x @ kernel[i, j].T
            down, across = part.shape[1] * steps[0], part.shape[2] * steps[1]
            found[:, i : i + down : steps[0], j : j + across : steps[1]] += part
    return np.asarray(found[:, top : top + height, left : left + width])


def _max_pool(attributes: Attributes, x: Array) -> Array:
    low = float("-inf") if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.asarray(_windows(attributes, x, _kernel(attributes), (1, 1), low).max((4, 5)))


def _mean_pool(attributes: Attributes, x: Array) -> Array:
    """Return means of what is there: padding does not count."""
    kernel = _kernel(attributes)
    total = _windows(attributes, x, kernel, (1, 1), 0).sum((4, 5))
    there = _windows(attributes, np.ones((1, *x.shape[1:3], 1), x.dtype), kernel, (1, 1), 0)
    return np.asarray(total / there.sum((4, 5)))


def _kernel(attributes: Attributes) -> tuple[int, int]:
    one, tall, wide, last = attributes["ksize"]
    if (one, last) != (1, 1):
        raise ValueError("it pools over rows or channels")
    return tall, wide


def _normalise(attributes: Attributes, x: Array, *stored: Array) -> tuple[Array, ...]:
    """Return what is normalised. Layers that normalise each row by itself are written so too."""
    scale, offset, mean, variance = stored
    channels = 1 if attributes.get("data_format") == b"NCHW" else x.ndim - 1
    if attributes.get("is_training", True):
        others = tuple(axis for axis in range(x.ndim) if axis != channels)
        mean, variance = x.mean(others), x.var(others)
    steep = scale / np.sqrt(variance + np.float32(attributes.get("epsilon", 1e-4)))
    mean, steep, offset = (_along(each, channels, x.ndim) for each in (mean, steep, offset))
    found = ((x - mean) * steep + offset).astype(x.dtype)
    return found, mean, variance, mean, variance, mean


def _along(x: Array, axis: int, axes: int) -> Array:
    return x.reshape([-1 if each == axis else 1 for each in range(axes)])


def _larger(attributes: Attributes, x: Array, size: Array) -> Array:
    """Return a picture of another size, each number that of the nearest place."""
    if attributes.get("align_corners"):
        raise ValueError("it resizes with align_corners")
    height, width = (int(each) for each in size)
    size_of((x.shape[0], height, width, x.shape[3]))
    half = 0.5 if attributes.get("half_pixel_centers") else 0.0
    places = [
        np.minimum(((np.arange(new) + half) * (old / new)).astype(np.int64), old - 1)
        for new, old in ((height, x.shape[1]), (width, x.shape[2]))
    ]
    return np.asarray(x[:, places[0]][:, :, places[1]])


def _to_batch(x: Array, blocks: Array, pads: Array) -> Array:
    """Return rows cut in blocks, which convolutions with holes do."""
    count = len(blocks)
    widths = [(0, 0), *((int(a), int(b)) for a, b in pads), *[(0, 0)] * (x.ndim - 1 - count)]
    size_of(tuple(size + sum(pair) for size, pair in zip(x.shape, widths, strict=True)))
    x = np.pad(x, widths)
    shape = [x.shape[0]]
    for size, block in zip(x.shape[1:], blocks, strict=False):
        shape += [size // int(block), int(block)]
    cut = x.reshape(*shape, *x.shape[1 + count :])
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2)]
    moved = cut.transpose(*order, *range(2 * count + 1, cut.ndim))
    return moved.reshape(-1, *moved.shape[count + 1 :])


def _from_batch(x: Array, blocks: Array, crops: Array) -> Array:
    sizes = [int(each) for each in blocks]
    count = len(sizes)
    cut = x.reshape(*sizes, -1, *x.shape[1:])
    order = [count]
    for at in range(count):
        order += [count + 1 + at, at]
    moved = cut.transpose(*order, *range(2 * count + 1, cut.ndim))
    spread = [size * block for size, block in zip(x.shape[1 : 1 + count], sizes, strict=True)]
    whole = moved.reshape(-1, *spread, *x.shape[1 + count :])
    kept = [slice(int(a), size - int(b)) for size, (a, b) in zip(spread, crops, strict=True)]
    return np.asarray(whole[(slice(None), *kept)])


PLAIN: Mapping[str, Callable[..., Any]] = {
    "BatchToSpaceND": _from_batch,
    "SpaceToBatchND": _to_batch,
}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {
    "AvgPool": _mean_pool,
    "Conv2D": _conv,
    "Conv2DBackpropInput": _conv_back,
    "DepthwiseConv2dNative": _depthwise,
    "FusedBatchNorm": _normalise,
    "FusedBatchNormV2": _normalise,
    "FusedBatchNormV3": _normalise,
    "MaxPool": _max_pool,
    "ResizeNearestNeighbor": _larger,
}
"""Operators that take their attributes first."""
