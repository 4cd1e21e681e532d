"""Variables, tables and lists of tensors, and the operators that read them.

They are written only while a model is restored and initialised, from the files beside its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from feilun.adapters.tensorflow.checkpoint import Checkpoint
from feilun.adapters.tensorflow.graph import Node, target
from feilun.adapters.tensorflow.messages import Array, Attributes, dtype_of, size_of, texts_of
from feilun.adapters.tensorflow.planner import LazyAttributes
from feilun.adapters.tensorflow.shapes import gather

ANONYMOUS = b"cd2c89b7-88b7-44c8-ad83-06c2a9158347"
"""The name of variables that share nothing with another of that name."""
_VALUES = ("VariableV2", "Variable")
_VARIABLES = ("VarHandleOp", *_VALUES)
_TABLES = ("HashTableV2", "HashTable", "MutableHashTableV2", "AnonymousHashTable",
           "AnonymousMutableHashTable")  # fmt: skip


class Variable:
    """A variable, with a value once the model is restored."""

    def __init__(self) -> None:
        self.stored: Array | None = None

    @property
    def value(self) -> Array:
        """The value.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.stored is None:
            raise ValueError("a variable has no value in the checkpoint")
        return self.stored


class Table:
    """A table of keys and values."""

    def __init__(self, keys: np.dtype[Any], values: np.dtype[Any]) -> None:
        self.keys, self.values = keys, values
        self.known: dict[Any, Any] = {}

    def add(self, keys: Iterable[Any], values: Iterable[Any]) -> None:
        """Add what is in two lists of one length."""
        self.known.update(zip(keys, values, strict=True))

    def find(self, keys: Array, default: Array) -> Array:
        """Return the value of each key, or the default."""
        other = default.item() if default.ndim == 0 else default.reshape(-1)[0]
        found = [self.known.get(key, other) for key in keys.reshape(-1).tolist()]
        flat = texts_of(found) if self.values.kind == "O" else np.array(found, self.values)
        return flat.reshape(keys.shape)


class Resources:
    """The variables and tables of a model, by the names under which nodes share them."""

    def __init__(self) -> None:
        self._known: dict[str, Variable | Table] = {}

    def __call__(self, node: Node, attributes: Attributes) -> Variable | Table | None:
        """Return what a node stands for; None if it is an operator."""
        if node.operator not in _VARIABLES + _TABLES:
            return None
        shared = attributes.get("shared_name", b"")
        own = shared in (b"", ANONYMOUS)
        name = f"node {node.name}" if own else f"shared {shared.decode()}"
        if name not in self._known:
            self._known[name] = (
                Variable()
                if node.operator in _VARIABLES
                else Table(dtype_of(attributes["key_dtype"]), dtype_of(attributes["value_dtype"]))
            )
        return self._known[name]

    def read(self, node: Node, attributes: Attributes) -> Variable | Table | Array | None:
        """Return the same of a restored model: the oldest kind of variable is its value there."""
        found = self(node, attributes)
        if isinstance(found, Variable) and node.operator in _VALUES:
            return found.value
        return found

    def share_copies(self, nodes: Mapping[str, Node], read: Callable[[memoryview], Any]) -> None:
        """Give variables without a value that of the copy which the graph makes of them.

        Of a model of Keras 3, ``tf.saved_model.save`` stores such copies, and its functions read
        what they were made of.
        """
        for assign in nodes.values():
            if assign.operator != "AssignVariableOp" or len(assign.inputs) != 2:
                continue
            copy, value = (nodes.get(target(each)) for each in assign.inputs)
            if value is None or value.operator != "ReadVariableOp" or len(value.inputs) != 1:
                continue
            origin = nodes.get(target(value.inputs[0]))
            found = [
                self(node, LazyAttributes(node.attributes, read)) for node in (copy, origin) if node
            ]
            match found:
                case [Variable() as made, Variable() as first] if first.stored is None:
                    first.stored = made.stored


def _gather(attributes: Attributes, variable: Variable, places: Array) -> Array:
    return gather(attributes, variable.value, places)


def _of_table(table: Table) -> tuple[Array, Array]:
    keys, values = list(table.known), list(table.known.values())
    return (
        texts_of(keys) if table.keys.kind == "O" else np.array(keys, table.keys),
        texts_of(values) if table.values.kind == "O" else np.array(values, table.values),
    )


def _assert(condition: Array, *said: Any) -> None:
    if not np.all(condition):
        texts = [
            bytes(each.reshape(-1)[0]).decode(errors="replace")
            for each in said
            if isinstance(each, np.ndarray) and each.dtype.kind == "O" and each.size
        ]
        raise ValueError(f"the model refuses these rows: {' '.join(texts)[:200]}")


class _Listed(list[Any]):
    """A list of tensors, None where there is none yet; changed only as a copy."""


def _reserve(_: Attributes, _shape: Array, count: Array) -> list[Any]:
    size = int(count)
    size_of((size,))
    return _Listed([None] * size)


def _set(_: Attributes, tensors: list[Any], place: Array, value: Array) -> list[Any]:
    at = int(place)
    if not 0 <= at < len(tensors):
        raise ValueError("a list of tensors has no such place")
    found = _Listed(tensors)
    found[at] = value
    return found


def _get(attributes: Attributes, tensors: list[Any], place: Array, shape: Array) -> Array:
    at = int(place)
    if not 0 <= at < len(tensors):
        raise ValueError("a list of tensors has no such place")
    found: Array | None = tensors[at]
    return _empty(attributes, shape) if found is None else found


def _empty(attributes: Attributes, shape: Array) -> Array:
    sizes = tuple(int(each) for each in shape.reshape(-1))
    size_of(sizes)
    return np.zeros(sizes, dtype_of(attributes["element_dtype"]))


def _stack(attributes: Attributes, tensors: list[Any], shape: Array) -> Array:
    there = [each for each in tensors if each is not None]
    if not there:
        sizes = tuple(max(int(each), 0) for each in shape.reshape(-1))
        size_of((len(tensors), *sizes))
        return np.zeros((len(tensors), *sizes), dtype_of(attributes["element_dtype"]))
    return np.stack([np.zeros_like(there[0]) if each is None else each for each in tensors])


PLAIN: Mapping[str, Callable[..., Any]] = {
    "Assert": _assert,
    "LookupTableExportV2": _of_table,
    "LookupTableFind": Table.find,
    "LookupTableFindV2": lambda table, keys, default: table.find(keys, default),
    "LookupTableSizeV2": lambda table: np.array(len(table.known), np.int64),
    "ReadVariableOp": lambda variable: variable.value,
    "TensorListLength": lambda tensors: np.array(len(tensors), np.int32),
    "VarIsInitializedOp": lambda variable: np.array(variable.stored is not None),
}
"""Operators without attributes that matter."""
SHAPED: Mapping[str, Callable[..., Any]] = {
    "EmptyTensorList": lambda _attributes, _shape, _most: _Listed(),
    "ResourceGather": _gather,
    "TensorListFromTensor": lambda _attributes, x, _shape: _Listed(x),
    "TensorListGetItem": _get,
    "TensorListPopBack": lambda _attributes, tensors, _: (_Listed(tensors[:-1]), tensors[-1]),
    "TensorListPushBack": lambda _attributes, tensors, x: _Listed([*tensors, x]),
    "TensorListReserve": _reserve,
    "TensorListSetItem": _set,
    "TensorListStack": _stack,
    "VariableShape": lambda attributes, variable: np.array(
        variable.value.shape, dtype_of(attributes.get("out_type", 3))
    ),
}
"""Operators that take their attributes first."""


def loading(
    checkpoint: Checkpoint | None, assets: Mapping[bytes, bytes]
) -> Mapping[str, Callable[..., Any]]:
    """Return the operators that restore and initialise a model, from its own files alone.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Its variables.
    assets : mapping
        The bytes of its other files, by the text that the graph has for each.
    """

    def restore(_: Attributes, _prefix: Array, names: Array, slices: Array) -> tuple[Array, ...]:
        if checkpoint is None:
            raise ValueError("it has no variables")
        asked = zip(names.reshape(-1), slices.reshape(-1), strict=True)
        return tuple(checkpoint.tensor(name.decode(), part.decode()) for name, part in asked)

    def assign(_: Attributes, variable: Variable, value: Array) -> None:
        variable.stored = value

    def fill(_: Attributes, table: Table, keys: Array, values: Array) -> None:
        table.add(keys.reshape(-1).tolist(), values.reshape(-1).tolist())

    def fill_from_file(attributes: Attributes, table: Table, path: Array) -> None:
        name = path.reshape(-1)[0]
        if name not in assets:
            raise ValueError("it reads a file that does not come with it")
        lines = assets[name].decode(errors="surrogateescape").split("\n")
        if lines[-1] == "":
            lines.pop()
        if attributes.get("offset", 0):
            raise ValueError("it reads a file from a line on")
        if attributes.get("vocab_size", -1) > 0:
            lines = lines[: attributes["vocab_size"]]
        columns = [
            _column(lines, attributes[place], kind, attributes.get("delimiter", b"\t"))
            for place, kind in (("key_index", table.keys), ("value_index", table.values))
        ]
        table.add(*columns)

    return {
        "Assign": assign,
        "AssignVariableOp": assign,
        "InitializeTableFromTextFileV2": fill_from_file,
        "InitializeTableV2": fill,
        "LookupTableImportV2": fill,
        "RestoreV2": restore,
    }


def _column(lines: list[str], place: int, kind: np.dtype[Any], delimiter: bytes) -> list[Any]:
    """Return a column of a file: -1 is the line's number, -2 the whole line."""
    if place == -1:
        return list(range(len(lines)))
    texts = lines if place == -2 else [line.split(delimiter.decode())[place] for line in lines]
    if kind.kind == "O":
        return [text.encode(errors="surrogateescape") for text in texts]
    return np.array(texts).astype(kind).tolist() if texts else []
