"""Operators of TensorFlow, in NumPy: where numbers lie, and which of them are taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.messages import MAX_TENSOR, Array, Attributes, dtype_of, size_of


def _ints(x: Array) -> tuple[int, ...]:
    return tuple(int(each) for each in np.asarray(x).reshape(-1))


def _sized(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape that is not too large to be made."""
    size_of(shape)
    return shape


def within(places: Array, size: int) -> Array:
    """Return places of a list; NumPy would count from its end where TensorFlow fails."""
    if places.size and (int(places.min()) < 0 or int(places.max()) >= size):
        raise ValueError(f"a place is outside of 0 to {size - 1}")
    return places


def _shape(attributes: Attributes, x: Array) -> Array:
    return np.array(np.shape(x), dtype_of(attributes.get("out_type", 3)))


def _squeeze(attributes: Attributes, x: Array) -> Array:
    axes = attributes.get("squeeze_dims") or attributes.get("axis")
    return np.squeeze(x, tuple(axes) if axes else None)


def _concat(*inputs: Array) -> Array:
    return np.concatenate(inputs[:-1], int(inputs[-1]))


def _concat_old(axis: Array, *inputs: Array) -> Array:
    return _concat(*inputs, axis)


def _pack(attributes: Attributes, *inputs: Array) -> Array:
    return np.stack(inputs, attributes.get("axis", 0))


def _unpack(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis = attributes.get("axis", 0)
    parts = tuple(np.take(x, at, axis) for at in range(x.shape[axis]))
    if len(parts) != attributes["num"]:
        raise ValueError("Unpack has another number of parts")
    return parts


def _split(attributes: Attributes, axis: Array, x: Array) -> tuple[Array, ...]:
    return tuple(np.split(x, attributes["num_split"], int(axis)))


def _split_sizes(_: Attributes, x: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
    whole = x.shape[int(axis)]
    parts = list(_ints(sizes))
    if -1 in parts:
        parts[parts.index(-1)] = whole - sum(parts) - 1
    if min(parts) < 0 or sum(parts) != whole:
        raise ValueError("SplitV has parts of other sizes")
    return tuple(np.split(x, np.cumsum(parts)[:-1], int(axis)))


def _slice(x: Array, begin: Array, size: Array) -> Array:
    starts, sizes = _ints(begin), _ints(size)
    ends = [
        whole if wanted == -1 else start + wanted
        for start, wanted, whole in zip(starts, sizes, x.shape, strict=True)
    ]
    if any(not 0 <= s <= e <= w for s, e, w in zip(starts, ends, x.shape, strict=True)):
        raise ValueError("Slice takes what is not there")
    return np.asarray(x[tuple(map(slice, starts, ends))])


def _strided(attributes: Attributes, x: Array, begin: Array, end: Array, step: Array) -> Array:
    starts, ends, steps = _ints(begin), _ints(end), _ints(step)
    masks = {name: attributes.get(f"{name}_mask", 0) for name in _MASKS}
    index: list[Any] = []
    for place in range(len(starts)):
        bit = 1 << place
        if masks["ellipsis"] & bit:
            index.append(Ellipsis)
        elif masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(starts[place])
        else:
            start = None if masks["begin"] & bit else starts[place]
            stop = None if masks["end"] & bit else ends[place]
            index.append(slice(start, stop, steps[place]))
    return np.asarray(x[tuple(index)])


_MASKS = ("ellipsis", "new_axis", "shrink_axis", "begin", "end")


def _tile(x: Array, times: Array) -> Array:
    counts = _ints(times)
    _sized(tuple(size * count for size, count in zip(x.shape, counts, strict=True)))
    return np.tile(x, counts)


def _pad(x: Array, widths: Array, value: Any = None) -> Array:
    pairs = [(int(before), int(after)) for before, after in widths]
    _sized(tuple(s + b + a for s, (b, a) in zip(x.shape, pairs, strict=True)))
    return np.pad(x, pairs, constant_values=x.dtype.type(0) if value is None else value)


def _mirror(attributes: Attributes, x: Array, widths: Array) -> Array:
    pairs = [(int(before), int(after)) for before, after in widths]
    _sized(tuple(s + b + a for s, (b, a) in zip(x.shape, pairs, strict=True)))
    mode = "reflect" if attributes["mode"] == b"REFLECT" else "symmetric"
    return np.pad(x, pairs, mode)  # type: ignore[call-overload,no-any-return]  # mode: no literal


def _fill(shape: Array, value: Array) -> Array:
    return np.full(_sized(_ints(shape)), value, value.dtype)


def _range(start: Array, stop: Array, step: Array) -> Array:
    if not step or abs((stop - start) / step) > MAX_TENSOR:
        raise ValueError("a range has too many numbers")
    found = np.arange(float(start), float(stop), float(step))
    return found.astype(start.dtype)


def _line(start: Array, stop: Array, count: Array) -> Array:
    (size,) = _sized((int(count),))
    return np.linspace(start.item(), stop.item(), size).astype(start.dtype)


def _broadcast(x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, _sized(_ints(shape))).copy()


def _broadcast_shape(left: Array, right: Array) -> Array:
    return np.array(np.broadcast_shapes(_ints(left), _ints(right)), left.dtype)


def _one_hot(attributes: Attributes, places: Array, depth: Array, on: Array, off: Array) -> Array:
    axis = attributes.get("axis", -1)
    size = int(depth)
    _sized((*places.shape, size))
    found = np.where(places[..., None] == np.arange(size), on, off)
    return found if axis == -1 else np.moveaxis(found, -1, axis)


def gather(attributes: Attributes, x: Array, places: Array, axis: Any = 0) -> Array:
    """Return the parts of a tensor at some places of an axis, row by row where ``batch_dims``."""
    along = int(axis) % x.ndim
    batch = attributes.get("batch_dims", 0)
    batch += places.ndim if batch < 0 else 0
    within(places, x.shape[along])
    if batch == 0:
        return np.take(x, places, along)
    lead = x.shape[:batch]
    flat, own = x.reshape(-1, *x.shape[batch:]), places.reshape(-1, *places.shape[batch:])
    found = [np.take(row, at, along - batch) for row, at in zip(flat, own, strict=True)]
    if not found:
        shape = (*x.shape[batch:along], *places.shape[batch:], *x.shape[along + 1 :])
        return np.empty((*lead, *shape), x.dtype)
    stacked = np.stack(found)
    return stacked.reshape(*lead, *stacked.shape[1:])


def _gather_points(x: Array, points: Array) -> Array:
    return np.asarray(x[_points(points, x.shape)])


def _points(points: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    return tuple(within(points[..., at], shape[at]) for at in range(points.shape[-1]))


def _scatter(points: Array, values: Array, shape: Array) -> Array:
    found = np.zeros(_sized(_ints(shape)), values.dtype)
    np.add.at(found, _points(points, found.shape), values)
    return found


def _scatter_update(x: Array, points: Array, values: Array) -> Array:
    found = x.copy()
    found[_points(points, x.shape)] = values
    return found


def _scatter_add(x: Array, points: Array, values: Array) -> Array:
    found = x.copy()
    np.add.at(found, _points(points, x.shape), values)
    return found


def _reverse_sequence(attributes: Attributes, x: Array, lengths: Array) -> Array:
    along, batch = attributes["seq_dim"], attributes.get("batch_dim", 0)
    moved = np.moveaxis(x, (batch, along), (0, 1)).copy()
    for row, length in zip(moved, lengths, strict=True):
        row[: int(length)] = row[: int(length)][::-1].copy()
    return np.moveaxis(moved, (0, 1), (batch, along))


def _unique(attributes: Attributes, x: Array) -> tuple[Array, Array]:
    """Return each value once, in the order in which they come, and which each one is."""
    found, first, which = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return found[order], rank[which.reshape(-1)].astype(dtype_of(attributes.get("out_idx", 3)))


def _partition(attributes: Attributes, x: Array, which: Array) -> tuple[Array, ...]:
    count = attributes["num_partitions"]
    if not 0 < count <= 100_000:
        raise ValueError("it has too many parts")
    return tuple(x[which == at] for at in range(count))


def _stitch(*inputs: Array) -> Array:
    half = len(inputs) // 2
    places, values = inputs[:half], inputs[half:]
    size = max((int(each.max(initial=-1)) + 1 for each in places), default=0)
    rest = values[0].shape[places[0].ndim :]
    found = np.zeros(_sized((size, *rest)), values[0].dtype)
    for at, value in zip(places, values, strict=True):
        found[within(at, size)] = value
    return found


def _band(x: Array, lower: Array, upper: Array) -> Array:
    row, column = np.ogrid[: x.shape[-2], : x.shape[-1]]
    below, above = int(lower), int(upper)
    kept = ((below < 0) | (row - column <= below)) & ((above < 0) | (column - row <= above))
    return np.where(kept, x, np.zeros((), x.dtype))


def _diagonal(x: Array) -> Array:
    _sized((*x.shape, x.shape[-1]))
    return np.asarray(x[..., None] * np.eye(x.shape[-1], dtype=x.dtype))


def _invert(x: Array) -> Array:
    found = np.empty_like(x)
    found[within(x, len(x))] = np.arange(len(x), dtype=x.dtype)
    return found


def _axes(x: Array) -> int | tuple[int, ...]:
    found = _ints(x)
    return found if np.ndim(x) else found[0]


PLAIN: Mapping[str, Callable[..., Any]] = {
    "BroadcastArgs": _broadcast_shape,
    "BroadcastTo": _broadcast,
    "Concat": _concat_old,
    "ConcatV2": _concat,
    "DynamicStitch": _stitch,
    "ExpandDims": lambda x, axis: np.expand_dims(x, int(np.asarray(axis).reshape(()))),
    "Fill": _fill,
    "GatherNd": _gather_points,
    "InvertPermutation": _invert,
    "LinSpace": _line,
    "MatrixBandPart": _band,
    "MatrixDiag": _diagonal,
    "MatrixDiagPart": lambda x: np.diagonal(x, axis1=-2, axis2=-1),
    "Pad": _pad,
    "PadV2": _pad,
    "ParallelDynamicStitch": _stitch,
    "Range": _range,
    "Rank": lambda x: np.array(np.ndim(x), np.int32),
    "Reshape": lambda x, shape: np.reshape(x, _ints(shape)),
    "ReverseV2": lambda x, axes: np.flip(x, _axes(axes)),
    "Roll": lambda x, shift, axis: np.roll(x, _axes(shift), _axes(axis)),
    "ScatterNd": _scatter,
    "Slice": _slice,
    "TensorScatterAdd": _scatter_add,
    "TensorScatterUpdate": _scatter_update,
    "Tile": _tile,
    "Transpose": lambda x, order: np.transpose(x, _ints(order)),
    "Where": lambda x: np.argwhere(x).astype(np.int64),
    **dict.fromkeys(
        ("EnsureShape", "Identity", "PreventGradient", "Snapshot", "StopGradient"), lambda x: x
    ),
    "IdentityN": lambda *inputs: inputs,
}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {
    "DynamicPartition": _partition,
    "Gather": gather,
    "GatherV2": gather,
    "MirrorPad": _mirror,
    "OneHot": _one_hot,
    "Pack": _pack,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "ShapeN": lambda attributes, *inputs: tuple(_shape(attributes, each) for each in inputs),
    "Size": lambda attributes, x: np.array(x.size, dtype_of(attributes.get("out_type", 3))),
    "Split": _split,
    "SplitV": _split_sizes,
    "Squeeze": _squeeze,
    "StridedSlice": _strided,
    "Unique": _unique,
    "Unpack": _unpack,
}
"""Operators that take their attributes first."""
