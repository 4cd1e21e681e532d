"""What an ONNX file must not hold, looked for before ONNX Runtime reads it.

A graph is data: operators of the runtime's own. But a tensor may name another file to be read, and
a node may be of a library of its own. Both are refused. Source of the field numbers:
``onnx/onnx.proto`` of ONNX 1; of the encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from feilun.errors import ModelError

MAX_DEPTH = 16
"""How deep graphs may be nested: bodies of loops and branches."""

_DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft"})
"""Whose operators ONNX Runtime brings itself."""
_READS_FILES = frozenset({b"EPContext"})
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL = {7: "graph", 25: "function"}
_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": _MODEL,
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""For each message that is looked into, its fields that are messages to look into too."""
_OPERATOR, _DOMAIN = 4, 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_graph(data: bytes) -> None:
    """Refuse a model that names other files or operators of another library.

    Raises
    ------
    ModelError
        If it does, or is no ONNX model.
    """
    try:
        _check("model", data, 0)
    except ValueError as error:
        raise ModelError(
            f"This is not a sound ONNX model: {error}.",
            "Write it with onnx.save(model, 'model.onnx'), its weights inside.",
        ) from error


def _check(kind: str, data: bytes, depth: int) -> None:
    if depth > 4 * MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    inner = _MESSAGES[kind]
    domain = operator = b""
    for number, wire, value in _fields(data):
        if kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION) and value:
            raise ValueError("its weights are in another file")
        if kind == "node" and number == _OPERATOR and isinstance(value, bytes):
            operator = value
        if kind == "node" and number == _DOMAIN and isinstance(value, bytes):
            domain = value
        if number in inner:
            if wire != _BYTES or not isinstance(value, bytes):
                raise ValueError("a part of it is of another kind")
            _check(inner[number], value, depth + 1)
    if operator in _READS_FILES:
        raise ValueError(f"its operator {operator.decode()} reads other files")
    if domain not in _DOMAINS:
        shown = domain[:60].decode("utf-8", "replace")
        raise ValueError(f"it has operators of {shown!r}, which ONNX Runtime does not bring")


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Give each field of a message: its number, its wire type and its value."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has no number")
        value: int | bytes
        if wire == _VARINT:
            value, position = _varint(data, position)
        elif wire in (_BYTES, _FIXED64, _FIXED32):
            if wire == _BYTES:
                size, position = _varint(data, position)
            else:
                size = 8 if wire == _FIXED64 else 4
            value = data[position : position + size]
            position += size
            if position > end:
                raise ValueError("it is cut off")
        else:
            raise ValueError("it has a field of an unknown kind")
        yield number, wire, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    found = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, position
        shift += 7
    raise ValueError("a number is cut off")
