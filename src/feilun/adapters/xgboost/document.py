"""XGBoost's model document, read and checked before XGBoost's own parser sees it.

The library takes the numbers of children, columns and category sets at their word and follows them
when it scores. Source of the format: ``doc/model.schema`` and ``src/tree/tree_model.cc`` of XGBoost
3; of UBJSON, whose numbers are big-endian: https://ubjson.org.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from feilun.errors import ModelError

MAX_DEPTH = 32
MAX_CATEGORY = 1 << 20
"""A set of categories takes a bit for each number up to its largest."""

Document = dict[str, Any]

_NUMBERS = {
    b"i": ">i1",
    b"U": ">u1",
    b"I": ">i2",
    b"u": ">u2",
    b"l": ">i4",
    b"m": ">u4",
    b"L": ">i8",
    b"d": ">f4",
    b"D": ">f8",
}
_TREE_ARRAYS = (
    "left_children", "right_children", "split_indices", "split_conditions", "default_left",
    "base_weights", "parents", "sum_hessian", "loss_changes",
)  # fmt: skip


def read_document(data: bytes, columns: int) -> Document:
    """Return the document of a model that gives one number a row.

    Raises
    ------
    ModelError
        If it is no sound model of ``columns`` columns.
    """
    try:
        document = _decode(data)
        _check(document, columns)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"This is not a sound XGBoost model: {reason[:300]}.",
            "Write it with booster.save_model('model.ubj').",
        ) from error
    return document


def _decode(data: bytes) -> Document:
    if data[:1] != b"{":
        raise ValueError("it does not begin with {")
    if data[1:2] in b"iUIlL":
        return _Ubjson(data).document()
    try:
        found = json.loads(data, object_pairs_hook=_pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise TypeError("it is not an object")
    return found


def _pairs(pairs: list[tuple[str, Any]]) -> Document:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


class _Ubjson:
    """Reads the part of UBJSON that XGBoost writes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def document(self) -> Document:
        found = self._value(0)
        if self._position != len(self._data):
            raise ValueError("something follows its end")
        return dict(found)

    def _value(self, depth: int) -> Any:
        marker = self._take(1)
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0]
        if marker == b"S":
            return self._text()
        if marker in (b"T", b"F"):
            return marker == b"T"
        if marker in (b"Z", b"N"):
            return None
        if depth == MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if marker == b"[":
            return self._array(depth + 1)
        if marker == b"{":
            return self._object(depth + 1)
        raise ValueError(f"it has an unknown mark {marker!r} at byte {self._position - 1}")

    def _array(self, depth: int) -> list[Any]:
        if self._next(b"$"):
            kind = self._take(1)
            if not self._next(b"#"):
                raise ValueError("an array of one type has no length")
            return self._numbers(kind, self._count())
        if self._next(b"#"):
            return [self._value(depth) for _ in range(self._count())]
        found = []
        while not self._next(b"]"):
            found.append(self._value(depth))
        return found

    def _object(self, depth: int) -> Document:
        pairs = []
        while not self._next(b"}"):
            name = self._text()
            pairs.append((name, self._value(depth)))
        return _pairs(pairs)

    def _numbers(self, marker: bytes, count: int) -> list[Any]:
        kind = np.dtype(_NUMBERS[marker])
        found: list[Any] = np.frombuffer(self._take(kind.itemsize * count), kind).tolist()
        return found

    def _count(self) -> int:
        marker = self._take(1)
        if marker not in _NUMBERS or marker in b"dD":
            raise ValueError("a length is not a whole number")
        (count,) = self._numbers(marker, 1)
        if not 0 <= count <= len(self._data):
            raise ValueError("a length is larger than the file")
        return int(count)

    def _text(self) -> str:
        return self._take(self._count()).decode()

    def _next(self, mark: bytes) -> bool:
        if self._data[self._position : self._position + 1] != mark:
            return False
        self._position += 1
        return True

    def _take(self, count: int) -> bytes:
        found = self._data[self._position : self._position + count]
        if len(found) != count:
            raise ValueError("it is cut off")
        self._position += count
        return found


def _check(document: Document, columns: int) -> None:
    learner = document["learner"]
    parameters = learner["learner_model_param"]
    found = int(parameters["num_feature"])
    _require(found == columns, f"it takes {found} columns, not {columns}")
    _require(
        int(parameters.get("num_class", 0)) <= 1 and int(parameters.get("num_target", 1)) == 1,
        "it gives several numbers a row; train a binary, regression or ranking objective",
    )
    name = learner["objective"]["name"]
    _require(not name.startswith("multi:"), f"{name} gives several numbers a row")
    booster = learner["gradient_booster"]
    _require(
        booster["name"] in ("gbtree", "dart"), f"the booster {booster['name']!r} is not of trees"
    )
    inner = booster["gbtree"] if booster["name"] == "dart" else booster
    model = inner["model"]
    trees = model["trees"]
    _require(len(trees) == int(model["gbtree_model_param"]["num_trees"]), "trees are missing")
    _require(model["tree_info"] == [0] * len(trees), "its trees give several numbers a row")
    bounds = model.get("iteration_indptr", [0, len(trees)])
    _require(
        bounds == sorted(bounds) and (bounds[0], bounds[-1]) == (0, len(trees)),
        "its rounds do not fit its trees",
    )
    if booster["name"] == "dart":
        _require(len(booster["weight_drop"]) == len(trees), "its trees' weights do not fit")
    for number, tree in enumerate(trees):
        _check_tree(tree, columns, number)


def _check_tree(tree: Document, columns: int, number: int) -> None:
    parameters = tree["tree_param"]
    size = int(parameters["num_nodes"])
    _require(size >= 1, f"tree {number} has no node")
    _require(int(parameters.get("size_leaf_vector", 1)) <= 1, "a leaf holds several numbers")
    _require(int(parameters["num_feature"]) == columns, f"tree {number} has other columns")
    for name in _TREE_ARRAYS:
        _require(len(tree[name]) == size, f"{name} of tree {number} has another length")
    left, right, split = (tree[name] for name in _TREE_ARRAYS[:3])
    _require(
        all(type(each) is int for each in (*left, *right, *split)),
        f"tree {number} is numbered with something but whole numbers",
    )
    seen = {0}
    waiting = [0]
    while waiting:
        node = waiting.pop()
        children = left[node], right[node]
        if children == (-1, -1):
            continue
        for child in children:
            _require(0 < child < size and child not in seen, f"tree {number} is not a tree")
            seen.add(child)
            waiting.append(child)
        _require(0 <= split[node] < columns, f"tree {number} splits on a column that is not there")
    _check_categories(tree, size, number)


def _check_categories(tree: Document, size: int, number: int) -> None:
    kinds = tree.get("split_type", [])
    _require(len(kinds) in (0, size), f"split_type of tree {number} has another length")
    nodes = tree.get("categories_nodes", [])
    starts, counts = tree.get("categories_segments", []), tree.get("categories_sizes", [])
    categories = tree.get("categories", [])
    wrong = f"the category sets of tree {number} do not fit"
    _require(set(kinds) <= {0, 1}, f"tree {number} has an unknown kind of split")
    _require(nodes == [node for node, kind in enumerate(kinds) if kind == 1], wrong)
    _require(len(starts) == len(counts) == len(nodes), wrong)
    for start, count in zip(starts, counts, strict=True):
        _require(start >= 0 and count > 0 and start + count <= len(categories), wrong)
    _require(all(0 <= each < MAX_CATEGORY for each in categories), wrong)


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def best_iteration(document: Document) -> int | None:
    """Return the round at which training would have stopped, as scikit-learn's predict takes it."""
    best = document["learner"].get("attributes", {}).get("best_iteration")
    return None if best is None else int(best)


def column_names(data: bytes) -> tuple[str, ...]:
    """Return what a sound model calls its columns; empty where it does not."""
    return tuple(str(name) for name in _decode(data)["learner"].get("feature_names", ()))
