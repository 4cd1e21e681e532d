"""What a SavedModel takes and gives: the inputs and the output of its signature for serving."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from feilun.adapters.tensorflow.folder import GRAPH, unpack
from feilun.adapters.tensorflow.graph import target
from feilun.adapters.tensorflow.messages import DTYPES, SCHEMA, shape_of
from feilun.adapters.tensorflow.protobuf import Message, Reader
from feilun.errors import ModelError, WrongColumns

DEFAULT = "serving_default"
DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
    ArithmeticError, MemoryError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError,
    EOFError,
)  # fmt: skip
"""What reading or running a damaged model may raise."""
_OUTPUTS = ("probabilities", "scores", "score", "predictions", "logistic")
"""What the output is called that is the score, where there are several; the first that fits."""
_MAX_VALUES = 100_000
"""How much there may be beside the graph, which is read outside of the worker."""
WAY = "Convert it: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"


class Input(NamedTuple):
    """One input of a signature: its node, its type (texts are objects), and a row's shape."""

    name: str
    node: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many columns it takes."""
        return math.prod(self.shape)


def read_inputs(data: bytes, columns: int | None) -> tuple[Input, ...]:
    """Return the inputs of a SavedModel in the order of their columns; nothing else is read.

    Parameters
    ----------
    data : bytes
        The model, as ``pack`` makes it.
    columns : int, optional
        How many columns it has to take.

    Raises
    ------
    WrongColumns
        If it takes another number of columns.
    ModelError
        If it is no such model, or takes something else.
    """
    try:
        graph = serving_graph(Reader(SCHEMA, _MAX_VALUES), unpack(data, GRAPH)[GRAPH])
        return inputs_of(signature_of(graph), columns)
    except DAMAGED as error:
        raise refusal(error) from error


def names_of(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return a name for each column; nothing where one input takes them all."""
    if len(inputs) == 1:
        return ()
    return tuple(
        f"{each.name}[{place}]" if each.width > 1 else each.name
        for each in inputs
        for place in range(each.width)
    )


def refusal(error: BaseException) -> ModelError:
    """Return what is said of a model that cannot be run, with the way to convert it."""
    reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
    return ModelError(f"This SavedModel cannot be run: {reason[:300]}.", WAY)


def serving_graph(reader: Reader, data: bytes) -> Message:
    """Return the graph that is for serving.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    graphs: list[Message] = reader.read("SavedModel", data)["graphs"]
    fit = [each for each in graphs if each["info"] and "serve" in each["info"]["tags"]]
    if len(fit or graphs) != 1:
        raise ValueError(f"it has {len(fit or graphs)} graphs; one for serving is needed")
    return (fit or graphs)[0]


def signature_of(meta: Message) -> Message:
    """Return the signature of a graph: ``serving_default``, or the only one.

    Raises
    ------
    ValueError
        If there is none.
    """
    signatures = {each["key"]: each["value"] for each in meta["signatures"]}
    names = [name for name in signatures if not name.startswith("__")]
    if DEFAULT not in names and len(names) != 1:
        raise ValueError(
            f"it has the signatures {', '.join(sorted(names)) or 'none'}, and not {DEFAULT}"
        )
    found: Message = signatures[DEFAULT if DEFAULT in names else names[0]]
    return found


def inputs_of(signature: Message, columns: int | None) -> tuple[Input, ...]:
    """Return the inputs in the order of their names, in which numbers count.

    Raises
    ------
    WrongColumns
        If they take another number of columns.
    ValueError
        If one is no tensor of numbers or texts with an open number of rows.
    """
    infos = {each["key"]: each["value"] for each in signature["inputs"]}
    alone = len(infos) == 1
    inputs = tuple(
        _input(name, infos[name], columns if alone else 1) for name in sorted(infos, key=_by_number)
    )
    if not inputs:
        raise ValueError("it takes no inputs")
    width = sum(each.width for each in inputs)
    if columns is not None and width != columns:
        raise WrongColumns(width, columns, names_of(inputs))
    return inputs


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a key by which ``x_2`` comes before ``x_10``."""
    parts = re.split(r"(\d{1,9})", name)
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


def _input(name: str, info: Message, columns: int | None) -> Input:
    """Return an input; a size that it leaves open is made to take so many columns."""
    dtype = DTYPES.get(info["dtype"])
    if not info["name"] or dtype is None:
        raise ValueError(f"its input {name} is no tensor of numbers or texts")
    shape = shape_of(info["shape"])
    if shape is None:
        shape = (-1, -1)
    if not shape or shape[0] != -1:
        raise ValueError(f"its input {name} has a fixed number of rows; leave it open")
    own = list(shape[1:])
    if own.count(-1) == 1:
        rest = math.prod(size for size in own if size != -1)
        own[own.index(-1)] = max((columns or 1) // max(rest, 1), 1)
    if len(own) > 8 or any(not 0 < size < 1 << 20 for size in own):
        raise ValueError(f"its input {name} does not say how many numbers a row of it has")
    return Input(name, target(info["name"]), np.dtype(dtype), tuple(own))


def output_of(signature: Message) -> str:
    """Return the reference to the output that is the score.

    Raises
    ------
    ValueError
        If there is none.
    """
    infos = {each["key"]: each["value"] for each in signature["outputs"]}
    floats = [name for name, info in infos.items() if DTYPES.get(info["dtype"], "")[:5] == "float"]
    known = floats if len(floats) == 1 else [name for name in _OUTPUTS if name in floats]
    if not known:
        raise ValueError(
            f"it has the outputs {', '.join(sorted(infos)) or 'none'}; one of floats is needed, or "
            f"one called {' or '.join(_OUTPUTS[:3])}"
        )
    return str(infos[known[0]]["name"])
