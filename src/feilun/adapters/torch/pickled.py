"""What TorchScript keeps in pickles, read as data: nothing is imported, nothing is called.

PyTorch's own reader is never used: it runs methods of the file (``__setstate__``) and follows a
damaged file out of its memory. Here a list of opcodes is walked, and of names only those stand for
something that are known: modules, tensors, lists. Source of the format:
``torch/csrc/jit/serialization/pickler.cpp`` of PyTorch 2.13.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from feilun.adapters.torch.archive import MAX_UNPACKED, require, strided

MAX_OPCODES = 1_000_000

_STORAGES = {
    "ByteStorage": "uint8", "CharStorage": "int8", "ShortStorage": "int16",
    "IntStorage": "int32", "LongStorage": "int64", "HalfStorage": "float16",
    "FloatStorage": "float32", "DoubleStorage": "float64", "BoolStorage": "bool",
}  # fmt: skip
_LISTS = frozenset({"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"})
_MARK = object()


class ScriptObject:
    """A module of the file: the name of its class, and its attributes."""

    def __init__(self, kind: str, attributes: Mapping[str, Any]) -> None:
        self.kind = kind
        self.attributes = dict(attributes)


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    dtype: str
    data: bytes


def read_pickle(data: bytes, storages: Mapping[str, bytes]) -> Any:
    """Return what a pickle describes, with tensors as arrays.

    Parameters
    ----------
    data : bytes
        The pickle.
    storages : mapping
        The bytes of the tensors, by their keys.

    Raises
    ------
    ValueError
        If it holds anything else than modules, tensors and plain values.
    """
    return _Reader(storages).read(data)


class _Reader:
    def __init__(self, storages: Mapping[str, bytes]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._size = 0

    def read(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            require(count < MAX_OPCODES, "its pickle is too long")
            name = opcode.name
            if name == "STOP":
                (found,) = self._stack
                return found
            if name in _VALUES:
                self._stack.append(_VALUES[name](argument))
            else:
                require(name in _ACTIONS, f"its pickle has the opcode {name}")
                _ACTIONS[name](self, argument)
        raise ValueError("its pickle is cut off")

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _tuple(self, size: int | None) -> None:
        values = self._marked() if size is None else [self._stack.pop() for _ in range(size)][::-1]
        self._stack.append(tuple(values))

    def _append(self, values: list[Any]) -> None:
        require(type(self._stack[-1]) is list, "it appends to what is no list")
        self._stack[-1].extend(values)

    def _set(self, values: list[Any]) -> None:
        require(type(self._stack[-1]) is dict, "it sets an item of what is no dictionary")
        keys = values[::2]
        require(
            all(type(key) in (str, int, float, bool) for key in keys), "a key is no plain value"
        )
        self._stack[-1].update(zip(keys, values[1::2], strict=True))

    def _new(self) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        known = isinstance(kind, _Global) and kind.name.startswith("__torch__")
        require(known and arguments == (), "it makes an object of an unknown class")
        self._stack.append(ScriptObject(kind.name, {}))

    def _build(self) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        plain = isinstance(made, ScriptObject) and type(state) is dict
        require(
            plain and all(type(key) is str for key in state), "an object has a state of its own"
        )
        made.attributes.update(state)

    def _storage(self) -> None:
        _, kind, key, _, count = self._stack.pop()
        name = kind.name.removeprefix("torch.")
        require(name in _STORAGES, f"its weights are of {name[:40]}")
        self._stack.append(_Storage(_STORAGES[name], self._storages[key]))
        require(type(count) is int, "a storage has no size")

    def _reduce(self) -> None:
        arguments, made = self._stack.pop(), self._stack.pop()
        require(isinstance(made, _Global) and type(arguments) is tuple, "it calls no name")
        if made.name == "torch._utils._rebuild_tensor_v2":
            storage, start, shape, strides = arguments[:4]
            found: Any = strided(storage.data, storage.dtype, shape, strides, start)
            self._size += found.nbytes  # many tensors may lie in one storage
            require(self._size <= MAX_UNPACKED, "its weights are too large")
        elif made.name == "collections.OrderedDict":
            require(arguments == (), "it calls OrderedDict with something")
            found = {}
        elif made.name.removeprefix("torch.jit._pickle.") in _LISTS:
            (found,) = arguments
            require(type(found) is list, "a list is none")
        elif made.name == "torch.jit._pickle.restore_type_tag":
            found, _ = arguments
        else:
            raise ValueError(f"it calls {made.name[:80]}, which is not known")
        self._stack.append(found)


def _whole(value: Any) -> Any:
    require(-(1 << 63) <= value < 1 << 63, "a number is too large")
    return value


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "MARK": lambda _: _MARK,
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "GLOBAL": lambda name: _Global(name.replace(" ", ".")),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _whole),
    **dict.fromkeys(("BINFLOAT", "BINUNICODE"), lambda value: value),
}
"""Opcodes that push a value."""
_ACTIONS: Mapping[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda _, version: require(version == 2, "its pickle is of another protocol"),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Reader._put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Reader._get),
    "TUPLE": lambda reader, _: reader._tuple(None),
    "TUPLE1": lambda reader, _: reader._tuple(1),
    "TUPLE2": lambda reader, _: reader._tuple(2),
    "TUPLE3": lambda reader, _: reader._tuple(3),
    "APPEND": lambda reader, _: reader._append([reader._stack.pop()]),
    "APPENDS": lambda reader, _: reader._append(reader._marked()),
    "SETITEM": lambda reader, _: reader._set([reader._stack.pop() for _ in "kv"][::-1]),
    "SETITEMS": lambda reader, _: reader._set(reader._marked()),
    "NEWOBJ": lambda reader, _: reader._new(),
    "BUILD": lambda reader, _: reader._build(),
    "BINPERSID": lambda reader, _: reader._storage(),
    "REDUCE": lambda reader, _: reader._reduce(),
}
"""Opcodes that do something with what was pushed."""
