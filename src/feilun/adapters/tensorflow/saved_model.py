"""A SavedModel of TensorFlow, read as data and made into a plan.

TensorFlow's own loader is never used: a SavedModel is a program to it, whose functions it runs to
restore the variables before anybody can look at them. Here the same functions are run operator by
operator, from lists that say what may be called, and can reach nothing but the model's own files.
Source of the format: ``tensorflow/cc/saved_model/loader.cc`` of TensorFlow 2.21.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from feilun.adapters.tensorflow import elementwise, layers, reductions, shapes, sparse, state, texts
from feilun.adapters.tensorflow.checkpoint import INDEX, Checkpoint
from feilun.adapters.tensorflow.folder import ASSETS, GRAPH, unpack
from feilun.adapters.tensorflow.graph import Graph, target
from feilun.adapters.tensorflow.messages import SCHEMA, Array, attribute_of, texts_of
from feilun.adapters.tensorflow.plan import Operators, Plan, Planner
from feilun.adapters.tensorflow.protobuf import Message, Reader
from feilun.adapters.tensorflow.signature import (
    DAMAGED,
    Input,
    inputs_of,
    output_of,
    refusal,
    serving_graph,
    signature_of,
)
from feilun.errors import ModelError

_INITIALISER = "__saved_model_init_op"
_ROOMS = (elementwise, reductions, shapes, layers, sparse, state, texts)
OPERATORS = Operators(
    plain={name: run for room in _ROOMS for name, run in room.PLAIN.items()},
    shaped={name: run for room in _ROOMS for name, run in room.SHAPED.items()},
)
"""What a model may call while it scores: arithmetic, nothing that reaches beyond its tensors."""


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
    except DAMAGED as error:
        raise refusal(error) from error


def _read(data: bytes, columns: int) -> SavedModel:
    files = unpack(data)
    reader = Reader(SCHEMA)
    meta = serving_graph(reader, files[GRAPH])
    signature = signature_of(meta)
    inputs, output = inputs_of(signature, columns), output_of(signature)
    graph = Graph(reader, reader.read("Graph", meta["graph"]))
    resources = state.Resources()
    read = partial(attribute_of, reader)
    with np.errstate(all="ignore"):
        loading = state.loading(_checkpoint(reader, files), _assets(meta, files))
        able = Operators(OPERATORS.plain, {**OPERATORS.shaped, **loading})
        _start(meta, Planner(graph, read, able, resources), INDEX in files)
        resources.share_copies(graph.nodes, read)
        planner = Planner(graph, read, OPERATORS, resources.read)
        plan = planner.plan([output], _given(meta), [each.node for each in inputs])
    return SavedModel(inputs, plan)


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
    except DAMAGED as error:
        raise ModelError(str(error)[:300]) from error
    rows = len(matrix)
    found = np.asarray(output)
    if found.shape in ((rows,), (rows, 1)) and found.dtype.kind == "f":
        return found.reshape(rows).astype(np.float64)
    if found.shape == (rows, 2) and np.allclose(found.sum(1), 1, atol=1e-3):
        return found[:, 1].astype(np.float64)
    raise ModelError(f"The model gave numbers of shape {found.shape} for {rows} rows.")


def _given_rows(inputs: Sequence[Input], matrix: Array) -> Iterator[Array]:
    start = 0
    for each in inputs:
        part = matrix[:, start : start + each.width].reshape(-1, *each.shape)
        start += each.width
        if each.dtype.kind in "iu" and not np.isfinite(part).all():
            raise ValueError(f"the input {each.name} takes whole numbers, and one is missing")
        yield part.astype(each.dtype)
