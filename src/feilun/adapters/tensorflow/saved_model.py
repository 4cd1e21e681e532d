"""A SavedModel of TensorFlow, read as data and made into a plan.

TensorFlow's own loader is never used: a SavedModel is a program to it, whose functions it runs to
restore the variables before anybody can look at them. Here the same functions are run operator by
operator, from lists that say what may be called, and can reach nothing but the model's own files.
Source of the format: ``tensorflow/cc/saved_model/loader.cc`` of TensorFlow 2.21.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from feilun.adapters.tensorflow import elementwise, layers, reductions, shapes, state, texts
from feilun.adapters.tensorflow.checkpoint import INDEX, Checkpoint
from feilun.adapters.tensorflow.folder import ASSETS, GRAPH, unpack
from feilun.adapters.tensorflow.graph import Graph, target
from feilun.adapters.tensorflow.messages import (
    DTYPES,
    SCHEMA,
    Array,
    attribute_of,
    dtype_of,
    shape_of,
    texts_of,
)
from feilun.adapters.tensorflow.plan import Operators, Plan, Planner
from feilun.adapters.tensorflow.protobuf import Message, Reader
from feilun.errors import ModelError, WrongColumns

DEFAULT = "serving_default"
_INITIALISER = "__saved_model_init_op"
_OUTPUTS = ("probabilities", "scores", "score", "predictions", "logistic")
"""What the output is called that is the score, where there are several; the first that fits."""
_ROOMS = (elementwise, reductions, shapes, layers, state, texts)
OPERATORS = Operators(
    plain={name: run for room in _ROOMS for name, run in room.PLAIN.items()},
    shaped={name: run for room in _ROOMS for name, run in room.SHAPED.items()},
)
"""What a model may call while it scores: arithmetic, nothing that reaches beyond its tensors."""
_WAY = "Convert it: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"


class Input(NamedTuple):
    """One input of a signature: its node, the type of its numbers, and a row's shape."""

    name: str
    node: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return math.prod(self.shape)


class SavedModel(NamedTuple):
    """The inputs in the order of their columns, and the plan of the score."""

    inputs: tuple[Input, ...]
    plan: Plan


def read_saved_model(data: bytes, columns: int) -> SavedModel:
    """Read a SavedModel, restore and initialise it, and plan its score.

    Raises
    ------
    WrongColumns
        If it takes another number of columns.
    ModelError
        If it is no such model, or calls anything but the operators that are known.
    """
    try:
        return _read(data, columns)
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
        ArithmeticError, MemoryError, zipfile.BadZipFile, NotImplementedError, RuntimeError,
        OSError, EOFError,
    ) as error:  # fmt: skip
        reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"This SavedModel cannot be run: {reason[:300]}.", _WAY) from error


def column_names(data: bytes) -> tuple[str, ...]:
    """Return the names of a model's columns; nothing where one input takes them all.

    Raises
    ------
    ValueError
        If it is no SavedModel.
    """
    signature = _signature(_serving(Reader(SCHEMA), unpack(data)[GRAPH]))
    inputs = _inputs(signature, None)
    if len(inputs) == 1 and inputs[0].width != 1:
        return ()
    return tuple(
        f"{each.name}[{place}]" if each.width > 1 else each.name
        for each in inputs
        for place in range(each.width)
    )


def _read(data: bytes, columns: int) -> SavedModel:
    files = unpack(data)
    reader = Reader(SCHEMA)
    meta = _serving(reader, files[GRAPH])
    signature = _signature(meta)
    inputs = _inputs(signature, columns)
    output = _output(signature)
    graph = Graph(reader, reader.read("Graph", meta["graph"]))
    resources = state.Resources()
    read = partial(attribute_of, reader)
    with np.errstate(all="ignore"):
        loading = state.loading(_checkpoint(reader, files), _assets(meta, files))
        able = Operators(OPERATORS.plain, {**OPERATORS.shaped, **loading})
        _start(meta, Planner(graph, read, able, resources), INDEX in files)
        planner = Planner(graph, read, OPERATORS, resources.read)
        plan = planner.plan([output], _given(meta), [each.node for each in inputs])
    return SavedModel(inputs, plan)


def _serving(reader: Reader, data: bytes) -> Message:
    """Return the graph that is for serving."""
    graphs: list[Message] = reader.read("SavedModel", data)["graphs"]
    fit = [each for each in graphs if each["info"] and "serve" in each["info"]["tags"]]
    if len(fit or graphs) != 1:
        raise ValueError(f"it has {len(fit or graphs)} graphs; one for serving is needed")
    return (fit or graphs)[0]


def _signature(meta: Message) -> Message:
    signatures = {each["key"]: each["value"] for each in meta["signatures"]}
    names = [name for name in signatures if not name.startswith("__")]
    if DEFAULT not in names and len(names) != 1:
        raise ValueError(
            f"it has the signatures {', '.join(sorted(names)) or 'none'}, and not {DEFAULT}"
        )
    found: Message = signatures[DEFAULT if DEFAULT in names else names[0]]
    return found


def _inputs(signature: Message, columns: int | None) -> tuple[Input, ...]:
    """Return the inputs in the order of their names; numbers in them count.

    ``columns`` are how many there are; None where that is known to fit.
    """
    infos = {each["key"]: each["value"] for each in signature["inputs"]}
    names = sorted(infos, key=_by_number)
    alone = len(infos) == 1
    inputs = tuple(_input(name, infos[name], columns if alone else None) for name in names)
    if not inputs:
        raise ValueError("it takes no inputs")
    width = sum(each.width for each in inputs)
    if columns is not None and width != columns:
        raise WrongColumns(
            width, tuple(f"{e.name}[{e.width}]" if e.width > 1 else e.name for e in inputs)
        )
    return inputs


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a key by which ``x_2`` comes before ``x_10``."""
    parts = re.split(r"(\d{1,9})", name)
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


def _input(name: str, info: Message, columns: int | None) -> Input:
    dtype = DTYPES.get(info["dtype"])
    if not info["name"]:
        raise ValueError(f"its input {name} is sparse")
    if dtype == "object":
        raise ValueError(
            f"its input {name} takes texts; export it from the codes on, which feilun keeps"
        )
    if dtype is None:
        raise ValueError(f"its input {name} is no tensor of numbers")
    shape = shape_of(info["shape"])
    if shape is None:
        shape = (-1, -1)
    if not shape or shape[0] != -1:
        raise ValueError(f"its input {name} is not [any number, …]; export it with an open batch")
    own = list(shape[1:])
    if own.count(-1) == 1 and columns is not None:
        rest = math.prod(size for size in own if size != -1)
        own[own.index(-1)] = columns // rest if rest else 0
    elif own == [-1]:
        own = [1]
    if len(own) > 8 or any(not 0 < size < 1 << 20 for size in own):
        raise ValueError(f"its input {name} does not say how many numbers a row of it has")
    return Input(name, target(info["name"]), np.dtype(dtype), tuple(own))


def _output(signature: Message) -> str:
    infos = {each["key"]: each["value"] for each in signature["outputs"]}
    floats = [name for name, info in infos.items() if DTYPES.get(info["dtype"], "")[:5] == "float"]
    known = floats if len(floats) == 1 else [name for name in _OUTPUTS if name in floats]
    if not known:
        raise ValueError(
            f"it has the outputs {', '.join(sorted(infos)) or 'none'}; one of floats is needed, or "
            f"one called {' or '.join(_OUTPUTS[:3])}"
        )
    return str(infos[known[0]]["name"])


def _checkpoint(reader: Reader, files: Mapping[str, bytes]) -> Checkpoint | None:
    return Checkpoint(reader, files) if INDEX in files else None


def _assets(meta: Message, files: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """Return the bytes of the files beside a graph, by the text that stands for each."""
    found = {}
    for each in meta["assets"]:
        name = each["filename"]
        if ASSETS + name not in files:
            raise ValueError(f"its file {name[:80]} is not there")
        found[name.encode()] = files[ASSETS + name]
    return found


def _given(meta: Message) -> dict[str, Any]:
    """Return what a loader says to the graph: where its files are."""
    given: dict[str, Any] = {
        target(each["tensor"]["name"]): _text(each["filename"]) for each in meta["assets"]
    }
    if meta["saver"]:
        given[target(meta["saver"]["filename"])] = _text("variables")
    return given


def _text(text: str) -> Array:
    return texts_of([text.encode()]).reshape(())


def _start(meta: Message, planner: Planner, stored: bool) -> None:
    """Restore the variables, and fill the tables."""
    if meta["saver"] and stored:
        planner.plan([meta["saver"]["restore"]], _given(meta))
    first = _initialiser(meta)
    if first:
        planner.plan([first], _given(meta))


def _initialiser(meta: Message) -> str | None:
    """Return the node that a loader runs first; None if there is none."""
    for each in meta["signatures"]:
        if each["key"] == _INITIALISER:
            (output,) = each["value"]["outputs"]
            return str(output["value"]["name"])
    for each in meta["collections"]:
        nodes: Sequence[str] = ((each["value"] or {}).get("nodes") or {}).get("value", ())
        if each["key"] in ("saved_model_main_op", "legacy_init_op") and nodes:
            return str(nodes[0])
    return None


def score(model: SavedModel, matrix: Array) -> Array:
    """Return one score a row; of two classes the second's probability.

    Raises
    ------
    ModelError
        If the model fails, or its output is something else.
    """
    try:
        with np.errstate(all="ignore"):
            (output,) = model.plan.run(list(_given_rows(model.inputs, matrix)))
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, ArithmeticError,
        MemoryError,
    ) as error:  # fmt: skip
        raise ModelError(str(error)[:300]) from error
    rows = len(matrix)
    found = np.asarray(output)
    if found.shape in ((rows,), (rows, 1)) and found.dtype.kind == "f":
        return found.reshape(rows).astype(np.float64)
    if found.shape == (rows, 2) and np.allclose(found.sum(1), 1, atol=1e-3):
        return found[:, 1].astype(np.float64)
    raise ModelError(f"The model gave numbers of shape {found.shape} for {rows} rows.")


def _given_rows(inputs: Sequence[Input], matrix: Array) -> Any:
    start = 0
    for each in inputs:
        part = matrix[:, start : start + each.width].reshape(-1, *each.shape)
        start += each.width
        if each.dtype.kind in "iu" and not np.isfinite(part).all():
            raise ValueError(f"the input {each.name} takes whole numbers, and one is missing")
        yield part.astype(each.dtype)


__all__ = ["SavedModel", "column_names", "dtype_of", "read_saved_model", "score"]
