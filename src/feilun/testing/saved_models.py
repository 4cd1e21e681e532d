"""Writes small SavedModels of TensorFlow without TensorFlow, whole or damaged on purpose.

Source of the formats: ``tensorflow/core/protobuf``, ``tensorflow/core/framework`` and
``tensor_bundle.cc`` of TensorFlow 2.21.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FLOAT, INT32, INT64, BOOL, TEXT, RESOURCE = 1, 3, 9, 10, 7, 20
_DTYPES = {"float32": FLOAT, "float64": 2, "int32": INT32, "int64": INT64, "bool": BOOL,
           "object": TEXT}  # fmt: skip
_MAGIC = bytes.fromhex("57fb808b247547db")


class Type(NamedTuple):
    """An attribute that names a type of numbers."""

    number: int


class Called(NamedTuple):
    """An attribute that names a function."""

    name: str


def message(*fields: tuple[int, Any]) -> bytes:
    """Return a message of fields by their numbers: whole numbers, floats, texts and bytes.

    Examples
    --------
    >>> message((1, 150), (2, "testing")).hex()
    '089601120774657374696e67'
    """
    parts = []
    for number, value in fields:
        if isinstance(value, bool | int):
            parts.append(varint(number << 3) + varint(int(value) & (1 << 64) - 1))
        elif isinstance(value, float):
            parts.append(varint(number << 3 | 5) + struct.pack("<f", value))
        else:
            data = value.encode() if isinstance(value, str) else bytes(value)
            parts.append(varint(number << 3 | 2) + varint(len(data)) + data)
    return b"".join(parts)


def varint(number: int) -> bytes:
    """Return a number in groups of seven bits.

    Examples
    --------
    >>> varint(300).hex()
    'ac02'
    """
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def shape(sizes: Sequence[int]) -> bytes:
    """Return a shape; -1 is any number."""
    return message(*((2, message((1, size))) for size in sizes))


def tensor(value: Any) -> bytes:
    """Return a constant."""
    array = np.asarray(value)
    said = (1, _DTYPES[array.dtype.name]), (2, shape(array.shape))
    if array.dtype == object:
        return message(*said, *((8, text) for text in array.reshape(-1).tolist()))
    return message(*said, (4, array.astype(array.dtype.newbyteorder("<")).tobytes()))


def attribute(value: Any) -> bytes:
    """Return an attribute of a plain value, a type, a function, an array, or a list of those."""
    if isinstance(value, list):
        inner = [(_field(each), attribute_value(each)) for each in value]
        numbers = {6: 6, 3: 3, 4: 4, 2: 2, 10: 9}
        return message((1, message(*((numbers[field], each) for field, each in inner))))
    return message((_field(value), attribute_value(value)))


def _field(value: Any) -> int:
    kinds = ((bool, 5), (int, 3), (float, 4), (bytes, 2), (Type, 6), (Called, 10))
    return next((number for kind, number in kinds if isinstance(value, kind)), 8)


def attribute_value(value: Any) -> Any:
    """Return what stands in an attribute's field."""
    if isinstance(value, Type):
        return value.number
    if isinstance(value, Called):
        return message((1, value.name))
    return value if isinstance(value, bool | int | float | bytes) else tensor(value)


def node(name: str, operator: str, *inputs: str, **attributes: Any) -> bytes:
    """Return a node of a graph."""
    entries = ((5, message((1, key), (2, attribute(each)))) for key, each in attributes.items())
    return message((1, name), (2, operator), *((3, each) for each in inputs), *entries)


def function(
    name: str,
    inputs: Sequence[str],
    outputs: Mapping[str, str],
    nodes: Sequence[bytes],
    controls: Sequence[str] = (),
) -> bytes:
    """Return a function: ``outputs`` says what each returns, ``controls`` what must have run."""
    signature = message(
        (1, name),
        *((2, message((1, each))) for each in inputs),
        *((3, message((1, each))) for each in outputs),
    )
    returns = (message((1, key), (2, each)) for key, each in outputs.items())
    said = (message((1, each), (2, each)) for each in controls)
    return message(
        (1, signature),
        *((3, each) for each in nodes),
        *((4, each) for each in returns),
        *((6, each) for each in said),
    )


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """Return a table of LevelDB's: one block, its index, and the footer."""
    block = _block(sorted(entries.items()))
    return joined(block, _block([(b"\xff", varint(0) + varint(len(block)))]))


def joined(block: bytes, index: bytes) -> bytes:
    """Return a table of one block of entries, and an index of such blocks."""
    nothing = _block([])
    at = len(block) + 5
    footer = varint(at) + varint(len(nothing))
    footer += varint(at + len(nothing) + 5) + varint(len(index))
    body = b"".join(each + b"\0" + checksum(each + b"\0") for each in (block, nothing, index))
    return body + footer.ljust(40, b"\0") + _MAGIC


def checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of a few bytes.

    Examples
    --------
    >>> checksum(b"123456789").hex()
    'e5b08ac7'
    """
    state = 0xFFFF_FFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    state ^= 0xFFFF_FFFF
    return struct.pack("<I", ((state >> 15 | state << 17) + 0xA282EAD8) & 0xFFFF_FFFF)


def _block(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    parts, before = [], b""
    for key, value in entries:
        shared = next(
            (at for at, (a, b) in enumerate(zip(before, key, strict=False)) if a != b),
            min(len(before), len(key)),
        )
        parts.append(varint(shared) + varint(len(key) - shared) + varint(len(value)))
        parts.append(key[shared:] + value)
        before = key
    return b"".join(parts) + struct.pack("<II", 0, 1)


def checkpoint(variables: Mapping[str, npt.NDArray[Any]]) -> dict[str, bytes]:
    """Return the files of some variables."""
    entries = {b"": message((1, 1))}
    data = b""
    for name, value in variables.items():
        own = value.astype(value.dtype.newbyteorder("<")).tobytes()
        said = (1, _DTYPES[value.dtype.name]), (2, shape(value.shape)), (4, len(data))
        crc = varint(6 << 3 | 5) + checksum(own)
        entries[name.encode()] = message(*said, (5, len(own))) + crc
        data += own
    return {
        "variables/variables.index": table(entries),
        "variables/variables.data-00000-of-00001": data,
    }


class Signature(NamedTuple):
    """Inputs and outputs: by name the reference, the type and the shape of each."""

    inputs: Mapping[str, tuple[str, int, Sequence[int]]]
    outputs: Mapping[str, tuple[str, int, Sequence[int]]]

    def encode(self) -> bytes:
        """Return its message."""
        fields = [
            (number, message((1, name), (2, message((1, ref), (2, kind), (3, shape(sizes))))))
            for number, said in ((1, self.inputs), (2, self.outputs))
            for name, (ref, kind, sizes) in said.items()
        ]
        return message(*fields)


def saved_model(
    nodes: Sequence[bytes],
    signature: Signature,
    functions: Sequence[bytes] = (),
    variables: Mapping[str, npt.NDArray[Any]] | None = None,
    *,
    first: str = "",
    assets: Mapping[str, tuple[str, bytes]] | None = None,
) -> dict[str, bytes]:
    """Return the files of a SavedModel by their names.

    Parameters
    ----------
    nodes, signature, functions
        The graph, what it takes and gives, and what it calls.
    variables : mapping, optional
        By name the values of the nodes of that name, which are ``VarHandleOp``.
    first : str
        The node that fills the tables.
    assets : mapping, optional
        By a file's name the node that stands for it, and its bytes.
    """
    names = list(variables or {})
    restoring: list[bytes] = []
    if names:
        restoring = [node("filename", "Placeholder"), node("restore", "StatefulPartitionedCall",
                     "filename", *names, f=Called("restore"))]  # fmt: skip
        functions = [*functions, _restore(names)]
    signatures = {"serving_default": signature.encode()}
    if first:
        done = Signature({}, {"__saved_model_init_op": (first, FLOAT, ())})
        signatures["__saved_model_init_op"] = done.encode()
    files = {f"assets/{name}": data for name, (_, data) in (assets or {}).items()}
    meta = message(
        (1, message((4, "serve"))),
        (2, message(*((1, each) for each in (*nodes, *restoring)),
                    (2, message(*((1, each) for each in functions))))),
        *([(3, message((1, "filename:0"), (3, "restore")))] if names else []),
        *((5, message((1, key), (2, each))) for key, each in signatures.items()),
        *((6, message((1, message((1, f"{place}:0"))), (2, name)))
          for name, (place, _) in (assets or {}).items()),
    )  # fmt: skip
    files["saved_model.pb"] = message((1, 1), (2, meta))
    return files | (checkpoint(variables) if variables else {})


def _restore(names: Sequence[str]) -> bytes:
    """Return the function that gives each variable its value in the checkpoint."""
    parts = np.array([b""] * len(names), object)
    nodes = [
        node("names", "Const", value=np.array([name.encode() for name in names], object)),
        node("parts", "Const", value=parts),
        node("read", "RestoreV2", "prefix", "names:output:0", "parts:output:0"),
    ]
    nodes.extend(
        node(f"assign{at}", "AssignVariableOp", f"to{at}", f"read:tensors:{at}")
        for at in range(len(names))
    )
    done = [f"^assign{at}" for at in range(len(names))]
    nodes.append(node("done", "Identity", "prefix", *done))
    arguments = ["prefix", *(f"to{at}" for at in range(len(names)))]
    return function("restore", arguments, {"result": "done:output:0"}, nodes)


def dense(columns: int, hidden: int = 6, seed: int = 0) -> tuple[dict[str, bytes], Any]:
    """Return the files of a network of two layers, and a function that computes the same."""
    rng = np.random.default_rng(seed)
    variables = {
        "hidden/kernel": rng.normal(size=(columns, hidden)).astype(np.float32),
        "hidden/bias": rng.normal(size=hidden).astype(np.float32),
        "out/kernel": rng.normal(size=(hidden, 1)).astype(np.float32),
    }
    body = [
        node("kernel", "ReadVariableOp", "k"),
        node("bias", "ReadVariableOp", "b"),
        node("last", "ReadVariableOp", "o"),
        node("product", "MatMul", "x", "kernel:value:0", transpose_a=False, transpose_b=False),
        node("sum", "BiasAdd", "product:product:0", "bias:value:0"),
        node("relu", "Relu", "sum:output:0"),
        node("logit", "MatMul", "relu:activations:0", "last:value:0"),
        node("score", "Sigmoid", "logit:product:0"),
    ]
    serve = function("serve", ["x", "k", "b", "o"], {"score": "score:y:0"}, body)
    nodes = [
        node("x", "Placeholder"),
        *(node(name, "VarHandleOp", shared_name=name.encode()) for name in variables),
        node("call", "StatefulPartitionedCall", "x", *variables, f=Called("serve")),
    ]
    signature = Signature(
        {"x": ("x:0", FLOAT, (-1, columns))}, {"output_0": ("call:0", FLOAT, (-1, 1))}
    )

    def compute(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        first, bias, last = variables.values()
        logits = np.maximum(rows @ first + bias, 0) @ last
        return np.asarray(1 / (1 + np.exp(-logits.reshape(-1).astype(np.float64))))

    return saved_model(nodes, signature, [serve], variables), compute


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return the files as one, as a bundle has them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in sorted(files.items()):
            made.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files to a folder, and return it."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
