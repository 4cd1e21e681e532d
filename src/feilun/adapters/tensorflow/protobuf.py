"""Reads protobuf's wire format by tables that say what each message holds.

Only what is in the tables is read; the rest is skipped. Nothing grows beyond what the bytes are
worth: messages lie within each other to a depth, and all values are counted.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MAX_DEPTH = 32
MAX_VALUES = 2_000_000
"""How many values a reader may make; numbers that are packed floats count as one."""

Message = dict[str, Any]


class Field(NamedTuple):
    """What one number in a message stands for.

    ``kind`` is ``int``, ``bool``, ``float``, ``double``, ``fixed32``, ``text`` or ``bytes``, or the
    name of another message; ``many`` that it may come more than once.
    """

    name: str
    kind: str
    many: bool = False


Schema = Mapping[str, Mapping[int, Field]]
"""The fields of each message by their numbers."""

_WIRES = {"int": 0, "bool": 0, "double": 1, "float": 5, "fixed32": 5}
"""How each kind is written; the others are lengths with bytes."""
_NOTHING: Mapping[str, Any] = {"int": 0, "bool": False, "float": 0.0, "double": 0.0, "fixed32": 0,
                               "text": "", "bytes": b""}  # fmt: skip
"""What a field is that does not come; of a message that is None."""


class Reader:
    """Reads messages of one schema; what it has made, ``most`` values, is counted together."""

    def __init__(self, schema: Schema, most: int = MAX_VALUES) -> None:
        self._schema = schema
        self._left = most

    def read(self, kind: str, data: bytes | memoryview, depth: int = 0) -> Message:
        """Return a message as a dictionary by names; bytes in it as views of ``data``.

        Raises
        ------
        ValueError
            If it is none, too deep, or has too much in it.
        """
        if depth > MAX_DEPTH:
            raise ValueError("its messages are too deep")
        fields = self._schema[kind]
        found: Message = {
            field.name: [] if field.many else _NOTHING.get(field.kind) for field in fields.values()
        }
        view = memoryview(data)
        at = 0
        while at < len(view):
            tag, at = varint(view, at)
            value, at = _value(view, at, tag & 7)
            field = fields.get(tag >> 3)
            if field is None:
                continue
            if field.many and tag & 7 == 2 and field.kind in _WIRES:
                found[field.name].extend(self._packed(field.kind, value))
                continue
            self._count(1)
            wire = _WIRES.get(field.kind, 2)
            if wire != tag & 7:
                raise ValueError(f"its {field.name} is of another kind")
            read = self._one(field.kind, value, depth)
            if field.many:
                found[field.name].append(read)
            else:
                found[field.name] = read
        return found

    def _count(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise ValueError("there is too much in it")

    def _one(self, kind: str, value: Any, depth: int) -> Any:
        if kind in self._schema:
            return self.read(kind, value, depth + 1)
        if kind == "text":
            return bytes(value).decode()
        return _PLAIN[kind](value)

    def _packed(self, kind: str, view: memoryview) -> list[Any]:
        if kind in ("float", "double"):
            self._count(1 + len(view) // 64)
            return list(np.frombuffer(view, "<f4" if kind == "float" else "<f8").tolist())
        self._count(len(view))
        found, at = [], 0
        while at < len(view):
            value, at = varint(view, at)
            found.append(_PLAIN[kind](value))
        return found


def varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, and where it ends.

    Raises
    ------
    ValueError
        If it does not end, or is longer than 64 bits.

    Examples
    --------
    >>> varint(memoryview(bytes([0x96, 0x01])), 0)
    (150, 2)
    """
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number in it is cut off")


def _value(view: memoryview, at: int, wire: int) -> tuple[Any, int]:
    if wire == 0:
        return varint(view, at)
    if wire == 2:
        size, at = varint(view, at)
    elif wire in (1, 5):
        size = 8 if wire == 1 else 4
    else:
        raise ValueError("it is no protobuf")
    if size > len(view) - at:
        raise ValueError("it is cut off")
    return view[at : at + size], at + size


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


_PLAIN: Mapping[str, Any] = {
    "int": _signed,
    "bool": bool,
    "float": lambda value: struct.unpack("<f", value)[0],
    "double": lambda value: struct.unpack("<d", value)[0],
    "fixed32": lambda value: struct.unpack("<I", value)[0],
    "bytes": lambda value: value,
}
