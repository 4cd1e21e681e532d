"""XGBoost's model document, read, checked, and written anew for XGBoost's own parser.

The library takes the document at its word: it follows the numbers of children, columns and category
sets wherever they point, and ends the process at some that are of another type. So it never sees
the file: what a model says is taken out of it piece by piece, and only that is handed on. Source of
the format: ``doc/model.schema`` and ``src/tree/tree_model.cc`` of XGBoost 3; of UBJSON, whose
numbers are big-endian: https://ubjson.org.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from feilun.errors import ModelError, WrongColumns

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
_WHOLE = ("left_children", "right_children", "split_indices", "default_left")
_FLOATS = ("split_conditions", "base_weights", "sum_hessian", "loss_changes")
_NO_PARENT = 2**31 - 1


class Model(NamedTuple):
    """A sound model: its document as JSON, and how many rounds of it count (0: all)."""

    json: bytes
    rounds: int


def read_model(data: bytes, columns: int) -> Model:
    """Read a model that gives one number a row.

    Where training stopped early, the rounds up to the best one count, as scikit-learn's
    ``predict`` has it.

    Raises
    ------
    ModelError
        If it is no sound model of ``columns`` columns.
    """
    try:
        document = _decode(data)
        best = document["learner"].get("attributes", {}).get("best_iteration")
        written = json.dumps(_rewritten(document, columns)).encode()
        return Model(written, 0 if best is None else int(best) + 1)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"This is not a sound XGBoost model: {reason[:300]}.",
            "Write it with booster.save_model('model.ubj').",
        ) from error


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


def _rewritten(document: Document, columns: int) -> Document:
    learner = document["learner"]
    parameters = learner["learner_model_param"]
    found = int(parameters["num_feature"])
    if found != columns:
        raise WrongColumns(found, columns)
    _require(
        int(parameters.get("num_class", 0)) <= 1 and int(parameters.get("num_target", 1)) == 1,
        "it gives several numbers a row; train a binary, regression or ranking objective",
    )
    name = learner["objective"]["name"]
    _require(not name.startswith("multi:"), f"{name} gives several numbers a row")
    booster = learner["gradient_booster"]
    _require(booster["name"] == "gbtree", f"the booster {booster['name']!r} is not gbtree")
    return {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {"model": _trees(booster["model"], columns), "name": "gbtree"},
            "learner_model_param": _texts(parameters),
            "objective": _texts(learner["objective"]),
        },
        "version": [_whole(each, 0, 1_000) for each in document["version"]],
    }


def _trees(model: Document, columns: int) -> Document:
    trees = [_tree(tree, columns, number) for number, tree in enumerate(model["trees"])]
    count = len(trees)
    _require(int(model["gbtree_model_param"]["num_trees"]) == count, "trees are missing")
    _require(model["tree_info"] == [0] * count, "its trees give several numbers a row")
    parallel = int(model["gbtree_model_param"].get("num_parallel_tree", 1))
    _require(parallel >= 1, "it grows no tree a round")
    written = {
        "gbtree_model_param": {"num_parallel_tree": str(parallel), "num_trees": str(count)},
        "tree_info": [0] * count,
        "trees": trees,
    }
    if "iteration_indptr" in model:
        bounds = [_whole(each, 0, count) for each in model["iteration_indptr"]]
        _require(
            bounds == sorted(bounds) and (bounds[0], bounds[-1]) == (0, count),
            "its rounds do not fit its trees",
        )
        written["iteration_indptr"] = bounds
    if "cats" in model:
        written["cats"] = {"enc": [], "feature_segments": [], "sorted_idx": []}
    return written


def _tree(tree: Document, columns: int, number: int) -> Document:
    """Return a tree of the nodes that can be reached from its root, numbered anew."""
    parameters = tree["tree_param"]
    size = int(parameters["num_nodes"])
    vector = int(parameters.get("size_leaf_vector", 1))
    _require(size >= 1, f"tree {number} has no node")
    _require(vector in (0, 1), "a leaf holds several numbers")
    for name in (*_WHOLE, *_FLOATS):
        _require(len(tree[name]) == size, f"{name} of tree {number} has another length")
    nodes = _nodes(tree["left_children"], tree["right_children"], size, number)
    places = {node: place for place, node in enumerate(nodes)}
    left, right, parents = [], [], [_NO_PARENT] * len(nodes)
    for place, node in enumerate(nodes):
        pair = tree["left_children"][node], tree["right_children"][node]
        children = (-1, -1) if pair == (-1, -1) else tuple(places[child] for child in pair)
        left.append(children[0])
        right.append(children[1])
        for child in children:
            if child > 0:
                parents[child] = place
    splits = [
        _whole(tree["split_indices"][node], 0, columns - 1) if left[places[node]] > 0 else 0
        for node in nodes
    ]
    return {
        "id": number,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(columns),
            "num_nodes": str(len(nodes)),
            "size_leaf_vector": str(vector),
        },
        "left_children": left,
        "right_children": right,
        "parents": parents,
        "split_indices": splits,
        "default_left": [_whole(int(tree["default_left"][node]), 0, 1) for node in nodes],
        **{name: [_float(tree[name][node]) for node in nodes] for name in _FLOATS},
        **_categories(tree, places, left, number),
    }


def _nodes(left: list[Any], right: list[Any], size: int, number: int) -> list[int]:
    """Return the numbers of the nodes below the root, each once."""
    found = [0]
    seen = {0}
    for node in found:  # it grows meanwhile
        children = left[node], right[node]
        if children == (-1, -1):
            continue
        for child in children:
            _whole(child, 1, size - 1)
            _require(child not in seen, f"tree {number} is not a tree")
            seen.add(child)
            found.append(child)
    return found


def _categories(tree: Document, places: dict[int, int], left: list[int], number: int) -> Document:
    """Return the sets of categories of the nodes that split by one."""
    size = int(tree["tree_param"]["num_nodes"])
    kinds = tree.get("split_type", []) or [0] * size
    _require(len(kinds) == size, f"split_type of tree {number} has another length")
    categories = tree.get("categories", [])
    sets = {
        node: (_whole(start, 0, len(categories)), _whole(count, 1, len(categories)))
        for node, start, count in zip(
            tree.get("categories_nodes", []),
            tree.get("categories_segments", []),
            tree.get("categories_sizes", []),
            strict=True,
        )
    }
    written: Document = {
        "split_type": [0] * len(places),
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
    }
    for node, place in places.items():  # in order of their places, as the library needs it
        if _whole(kinds[node], 0, 1) == 0 or left[place] < 0:
            continue
        start, count = sets[node]
        values = [_whole(each, 0, MAX_CATEGORY) for each in categories[start : start + count]]
        _require(len(values) == count, f"the category sets of tree {number} do not fit")
        written["split_type"][place] = 1
        written["categories_nodes"].append(place)
        written["categories_segments"].append(len(written["categories"]))
        written["categories_sizes"].append(count)
        written["categories"] += sorted(values)
    return written


def _texts(found: Document) -> Document:
    """Return parameters: texts by name, at most one level of them below."""
    written: Document = {}
    for name, value in found.items():
        if isinstance(value, dict):
            _require(all(type(each) is str for each in value.values()), f"{name} is no text")
            written[name] = value
        else:
            _require(type(value) is str, f"{name} is no text")
            written[name] = value
    return written


def _whole(value: Any, low: int, high: int) -> int:
    _require(type(value) is int, "it numbers something with another thing than a whole number")
    _require(low <= value <= high, f"it names {value} where there is {low} to {high}")
    return int(value)


def _float(value: Any) -> float:
    """Return what XGBoost's parser reads back to the bit: the shortest text of a float32."""
    _require(type(value) in (int, float), "a number is none")
    return float(str(np.float32(value)))


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def column_names(data: bytes) -> tuple[str, ...]:
    """Return what a sound model calls its columns; empty where it does not."""
    return tuple(str(name) for name in _decode(data)["learner"].get("feature_names", ()))
