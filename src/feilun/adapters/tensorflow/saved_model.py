"""A SavedModel of TensorFlow, read as data and made into a plan.

TensorFlow's own loader is never used: a SavedModel is a program to it, whose functions it runs to
restore the variables before anybody can look at them. Here the same functions are run operator by
operator, from lists that say what may be called, and can reach nothing but the model's own files.
Source of the format: ``tensorflow/cc/saved_model/loader.cc`` of TensorFlow 2.21.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from feilun.adapters.tensorflow import elementwise, layers, reductions, shapes, sparse, state, texts
from feilun.adapters.tensorflow.checkpoint import INDEX, Checkpoint
from feilun.adapters.tensorflow.folder import ASSETS, GRAPH, TEXTS, unpack
from feilun.adapters.tensorflow.graph import Graph, target
from feilun.adapters.tensorflow.messages import SCHEMA, Array, attribute_of, texts_of
from feilun.adapters.tensorflow.plan import Plan
from feilun.adapters.tensorflow.planner import Operators, Planner
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
    """The inputs in the order of their columns, the texts of codes, and the plan of the score.

    ``texts`` has, by the place of a column, what its codes stand for, and nothing at the end.
    """

    inputs: tuple[Input, ...]
    texts: Mapping[int, Array]
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
    known = _texts(inputs, files)
    graph = Graph(reader, reader.read("Graph", meta["graph"]))
    resources = state.Resources()
    read = partial(attribute_of, reader)
    with np.errstate(all="ignore"):
        loading = state.loading(_checkpoint(reader, files), _assets(meta, files))
        able = Operators(OPERATORS.plain, {**OPERATORS.shaped, **loading})
        _start(meta, Planner(graph, read, able, resources), INDEX in files)
        resources.share_copies(graph.nodes, read)
        said = [output], _given(meta), [each.node for each in inputs]
        planner = Planner(graph, read, OPERATORS, resources.read)
        plan = planner.plan(*said)
        if planner.written:  # such as the state of random numbers that only training uses
            alone = Planner(graph, read, OPERATORS, resources.read, controls=False)
            alone.plan(*said)
            if planner.written & alone.used:
                raise ValueError("it changes its own variables while it scores")
    return SavedModel(inputs, known, plan)


def _texts(inputs: Sequence[Input], files: Mapping[str, bytes]) -> dict[int, Array]:
    """Return the texts of the columns whose input takes texts, each as bytes."""
    said = json.loads(files.get(TEXTS, b"{}"))
    found, place = {}, 0
    for each in inputs:
        for column in range(place, place + each.width) if each.dtype.kind == "O" else ():
            if str(column) not in said:
                raise ValueError(
                    f"its input {each.name} takes texts; its feature must be one of texts, whose "
                    "dictionary is given with --categories"
                )
            found[column] = texts_of([text.encode() for text in said[str(column)]] + [b""])
        place += each.width
    return found


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
            (output,) = model.plan.run(list(_given_rows(model, matrix)))
    except DAMAGED as error:
        raise ModelError(str(error)[:300]) from error
    rows = len(matrix)
    found = np.asarray(output)
    if found.shape in ((rows,), (rows, 1)) and found.dtype.kind == "f":
        return found.reshape(rows).astype(np.float64)
    if found.shape == (rows, 2) and (found >= 0).all() and np.allclose(found.sum(1), 1, atol=1e-3):
        return found[:, 1].astype(np.float64)
    raise ModelError(f"The model gave numbers of shape {found.shape} for {rows} rows.")


def _given_rows(model: SavedModel, matrix: Array) -> Iterator[Array]:
    start = 0
    for each in model.inputs:
        columns = range(start, start + each.width)
        start += each.width
        if each.dtype.kind == "O":
            part = np.stack([_of_codes(model.texts[at], matrix[:, at]) for at in columns], 1)
        else:
            part = matrix[:, columns.start : columns.stop]
        if each.dtype.kind in "iu" and not np.isfinite(part).all():
            raise ValueError(f"the input {each.name} takes whole numbers, and one is missing")
        yield part.reshape(-1, *each.shape).astype(each.dtype)


def _of_codes(texts: Array, codes: Array) -> Array:
    """Return the texts that codes stand for; the last, which is empty, for what is missing."""
    last = len(texts) - 1
    known = (codes >= 0) & (codes < last)
    return np.asarray(texts[np.where(known, codes, last).astype(np.int64)])
