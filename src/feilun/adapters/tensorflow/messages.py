"""The messages of a SavedModel that are read, and what tensors and attributes in them mean.

Source of the numbers: ``tensorflow/core/protobuf`` and ``tensorflow/core/framework`` of
TensorFlow 2.21.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from feilun.adapters.tensorflow.protobuf import Field, Message, Reader, Schema, varint

Array: TypeAlias = npt.NDArray[Any]
Attributes: TypeAlias = Mapping[str, Any]

MAX_TENSOR = 1 << 26
"""The most elements of a tensor that is made."""
MAX_STORED = 1 << 28
"""The most elements of a tensor whose bytes are in the file."""
MAX_FILLED = 1 << 24
"""The most elements of a constant that is written as fewer."""

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "object",
    9: "int64", 10: "bool", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
"""The numbers of ``DataType`` that are supported; a text is an object of bytes."""
RESOURCE, VARIANT = 20, 21
"""What is no tensor: a variable or table, and a list of tensors."""

SCHEMA: Schema = {
    "SavedModel": {1: Field("version", "int"), 2: Field("graphs", "MetaGraph", many=True)},
    "MetaGraph": {
        1: Field("info", "MetaInfo"),
        2: Field("graph", "bytes"),  # read apart: names of columns need none of it
        3: Field("saver", "Saver"),
        4: Field("collections", "Collection", many=True),
        5: Field("signatures", "SignatureEntry", many=True),
        6: Field("assets", "Asset", many=True),
    },
    "MetaInfo": {4: Field("tags", "text", many=True)},
    "Saver": {1: Field("filename", "text"), 3: Field("restore", "text")},
    "Collection": {1: Field("key", "text"), 2: Field("value", "CollectionValue")},
    "CollectionValue": {1: Field("nodes", "Names")},
    "Names": {1: Field("value", "text", many=True)},
    "SignatureEntry": {1: Field("key", "text"), 2: Field("value", "Signature")},
    "Signature": {
        1: Field("inputs", "TensorInfoEntry", many=True),
        2: Field("outputs", "TensorInfoEntry", many=True),
    },
    "TensorInfoEntry": {1: Field("key", "text"), 2: Field("value", "TensorInfo")},
    "TensorInfo": {1: Field("name", "text"), 2: Field("dtype", "int"), 3: Field("shape", "Shape")},
    "Asset": {1: Field("tensor", "TensorInfo"), 2: Field("filename", "text")},
    "Graph": {1: Field("nodes", "Node", many=True), 2: Field("library", "Library")},
    "Library": {1: Field("functions", "bytes", many=True)},
    "Function": {
        1: Field("signature", "Operator"),
        3: Field("nodes", "Node", many=True),
        4: Field("returns", "TextEntry", many=True),
        6: Field("controls", "TextEntry", many=True),
    },
    "FunctionName": {1: Field("signature", "OperatorName")},
    "OperatorName": {1: Field("name", "text")},
    "Operator": {
        1: Field("name", "text"),
        2: Field("inputs", "Argument", many=True),
        3: Field("outputs", "Argument", many=True),
    },
    "Argument": {1: Field("name", "text")},
    "TextEntry": {1: Field("key", "text"), 2: Field("value", "text")},
    "Node": {
        1: Field("name", "text"),
        2: Field("operator", "text"),
        3: Field("inputs", "text", many=True),
        5: Field("attributes", "AttributeEntry", many=True),
    },
    "AttributeEntry": {1: Field("key", "text"), 2: Field("value", "bytes")},
    "Attribute": {
        1: Field("list", "Attributes"),
        2: Field("text", "bytes"),
        3: Field("int", "int"),
        4: Field("float", "float"),
        5: Field("bool", "bool"),
        6: Field("type", "int"),
        7: Field("shape", "Shape"),
        8: Field("tensor", "Tensor"),
        10: Field("function", "Called"),
    },
    "Attributes": {
        2: Field("text", "bytes", many=True),
        3: Field("int", "int", many=True),
        4: Field("float", "float", many=True),
        5: Field("bool", "bool", many=True),
        6: Field("type", "int", many=True),
        7: Field("shape", "Shape", many=True),
        9: Field("function", "Called", many=True),
    },
    "Called": {1: Field("name", "text")},
    "Shape": {2: Field("dims", "Dim", many=True), 3: Field("unknown", "bool")},
    "Dim": {1: Field("size", "int")},
    "Tensor": {
        1: Field("dtype", "int"),
        2: Field("shape", "Shape"),
        4: Field("content", "bytes"),
        5: Field("float", "float", many=True),
        6: Field("double", "double", many=True),
        7: Field("int", "int", many=True),
        8: Field("text", "bytes", many=True),
        10: Field("int64", "int", many=True),
        11: Field("bool", "bool", many=True),
        13: Field("half", "int", many=True),
        16: Field("uint32", "int", many=True),
        17: Field("uint64", "int", many=True),
    },
    "BundleHeader": {1: Field("shards", "int"), 2: Field("big_endian", "int")},
    "BundleEntry": {
        1: Field("dtype", "int"),
        2: Field("shape", "Shape"),
        3: Field("shard", "int"),
        4: Field("offset", "int"),
        5: Field("size", "int"),
        6: Field("crc", "fixed32"),
        7: Field("slices", "Slice", many=True),
    },
    "Slice": {1: Field("extents", "Extent", many=True)},
    "Extent": {1: Field("start", "int"), 2: Field("length", "int")},
}

_VALUES = {
    "float32": "float", "float64": "double", "object": "text", "int64": "int64", "bool": "bool",
    "float16": "half", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip
"""Where a tensor's numbers are if they are not bytes; those of the others are ``int``."""


class FunctionRef(NamedTuple):
    """A function of the file, by its name."""

    name: str


def dtype_of(number: int) -> np.dtype[Any]:
    """Return the type of numbers.

    Raises
    ------
    ValueError
        If it is not supported.
    """
    if number > 100:  # a reference to a tensor of that type
        number -= 100
    if number not in DTYPES:
        raise ValueError(f"it has numbers of TensorFlow's type {number}, which are not known")
    return np.dtype(DTYPES[number])


def shape_of(message: Message | None) -> tuple[int, ...] | None:
    """Return a shape, with -1 where any number may be; None if not even their number is known."""
    if message is None or message["unknown"]:
        return None
    return tuple(dim["size"] for dim in message["dims"])


def size_of(shape: Sequence[int], most: int = MAX_TENSOR) -> int:
    """Return how many elements a shape has.

    Raises
    ------
    ValueError
        If it is open, or has too many.
    """
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError("a tensor has an impossible shape")
    size = math.prod(shape)
    if size > most:
        raise ValueError("a tensor is too large")
    return size


def tensor_of(message: Message) -> Array:
    """Return a constant. Its last number stands for all that follow, as TensorFlow writes it.

    Raises
    ------
    ValueError
        If it is none.
    """
    dtype = dtype_of(message["dtype"])
    shape = shape_of(message["shape"]) or ()
    size = size_of(shape, MAX_STORED)
    name = dtype.name
    if len(message["content"]):
        if name == "object":
            raise ValueError("a tensor of texts is none")
        found = np.frombuffer(message["content"], dtype.newbyteorder("<")).astype(dtype)
    elif name == "object":
        found = texts_of([bytes(text) for text in message["text"]])
    elif name == "float16":
        found = np.array(message["half"], np.uint16).view(np.float16)
    else:
        found = np.array(message[_VALUES.get(name, "int")], dtype)
    if len(found) > size:
        raise ValueError("a tensor has more numbers than its shape says")
    if len(found) == size:
        return found.reshape(shape)
    size_of(shape, MAX_FILLED)
    last: Any = found[-1] if len(found) else (b"" if name == "object" else 0)
    filled = np.full(size, last, dtype)
    filled[: len(found)] = found
    return filled.reshape(shape)


def texts_of(texts: Sequence[bytes]) -> Array:
    """Return texts as an array."""
    found = np.empty(len(texts), object)
    found[:] = texts
    return found


def attribute_of(reader: Reader, data: memoryview) -> Any:
    """Return what an attribute is: a plain value, a shape, a tensor, a function, or a list.

    A type stays a number; a text stays bytes.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    message = reader.read("Attribute", data)
    field = _last_field(data)
    if field is None or field not in SCHEMA["Attribute"]:
        return None
    name = SCHEMA["Attribute"][field].name
    if name != "list":
        return _MEANINGS[name](message[name])
    items = message["list"]
    return [_MEANINGS[kind](each) for kind, values in items.items() for each in values]


def _last_field(data: memoryview) -> int | None:
    """Return the number of the field that a message of one field has."""
    return varint(data, 0)[0] >> 3 if len(data) else None


_MEANINGS: Mapping[str, Any] = {
    "text": bytes,
    "int": int,
    "float": float,
    "bool": bool,
    "type": int,
    "shape": shape_of,
    "tensor": tensor_of,
    "function": lambda message: FunctionRef(message["name"]),
}
