"""The structure of LightGBM's text format, checked before its C parser sees it.

The parser takes the text at its word: it jumps by the header's sizes, follows child numbers
wherever they point, and ends the whole process at a number it cannot read, because it throws
inside a parallel loop. The digest of the
bundle has told damage apart long before; this is the second lock on the door. Source of the
format: ``src/io/gbdt_model_text.cpp`` and ``src/io/tree.cpp`` of LightGBM 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from feilun.errors import ModelError, WrongColumns

_PER_SPLIT = (
    b"split_feature", b"split_gain", b"threshold", b"decision_type", b"left_child", b"right_child",
    b"internal_value", b"internal_weight", b"internal_count",
)  # fmt: skip
_PER_LEAF = (b"leaf_value", b"leaf_weight", b"leaf_count")
_NUMBER = rb"-?(?:\d+(?:\.\d+)?(?:e[+-]?\d{1,3})?|inf|nan)"
_NUMBERS = re.compile(rb"%s(?: %s)*" % (_NUMBER, _NUMBER))
_INTEGERS = re.compile(rb"-?\d{1,10}(?: -?\d{1,10})*")
_CATEGORICAL = 1
"""The bit of ``decision_type`` that makes ``threshold`` the number of a set of categories."""
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")
_END = b"end of trees"

Fields = Mapping[bytes, bytes]


def check_model_text(data: bytes, columns: int) -> None:
    """Refuse what LightGBM could not load and score without reading outside its arrays.

    Linear trees and models of several classes are refused too: one tree an iteration, one number
    a leaf.

    Raises
    ------
    ModelError
        If the text is not a sound model.
    WrongColumns
        If it is one of another number of columns.
    """
    try:
        _check(data, columns)
    except (ValueError, KeyError, IndexError) as error:
        lacks = isinstance(error, KeyError)
        reason = f"no {error.args[0].decode()} in it" if lacks else str(error)
        raise ModelError(
            f"This is not a sound LightGBM model: {reason}.", "Train and store it again."
        ) from error


def column_names(data: bytes) -> tuple[str, ...]:
    """Return what a sound model calls its columns, in order; empty where LightGBM made them up."""
    return _names(_fields(data.partition(b"\n\n")[0].removeprefix(b"tree\n")))


def _names(header: Fields) -> tuple[str, ...]:
    names = tuple(header[b"feature_names"].decode("utf-8", "replace").split())
    made_up = tuple(f"Column_{place}" for place in range(len(names)))
    return () if names == made_up else names


def _check(data: bytes, columns: int) -> None:
    _require(data.startswith(b"tree\n"), "it does not begin with 'tree'")
    _require(not _CONTROL.search(data), "it holds control characters")
    head, separator, _ = data.partition(b"\n\n")
    _require(bool(separator), "it ends within its header")
    header = _fields(head.removeprefix(b"tree\n"))
    for name in (b"num_class", b"num_tree_per_iteration"):
        numbers = _int(header, name)
        if numbers > 1:
            raise ModelError(
                f"The model gives {numbers} numbers a row; one is needed.",
                "Train a binary, regression or ranking objective.",
            )
        _require(numbers == 1, f"{name.decode()} is not 1")
    found = _int(header, b"max_feature_idx") + 1
    if found != columns:
        raise WrongColumns(found, columns, _names(header))
    for name in (b"feature_names", b"feature_infos"):
        _require(len(header[name].split()) == columns, f"{name.decode()} has another length")
    start = len(head) + len(separator)
    sizes = _ints(header, b"tree_sizes")
    least = start + sum(max(size, 0) for size in sizes) + len(_END)
    _require(len(data) >= least, f"it ends early, after {len(data)} of {least} bytes or more")
    for number, size in enumerate(sizes):
        block = data[start : start + max(size, 0)]
        _require(block.startswith(b"Tree=%d\n" % number), f"tree {number} is not at its place")
        _check_tree(_fields(block.rstrip(b"\n")), columns, number)
        start += size
    _require(data.startswith(_END, start), "its trees do not fill their space")


def _check_tree(tree: Fields, columns: int, number: int) -> None:
    leaves = _int(tree, b"num_leaves")
    _require(leaves >= 1, f"tree {number} has no leaf")
    _require(tree[b"is_linear"] == b"0", "it has linear trees (train without linear_tree)")
    _require(_count(tree, b"shrinkage") == 1, f"the shrinkage of tree {number} is not a number")
    _require(_count(tree, b"leaf_value") == leaves, f"tree {number} lacks leaf values")
    if leaves == 1:
        return
    for names, length in ((_PER_SPLIT, leaves - 1), (_PER_LEAF, leaves)):
        for name in names:
            _require(
                _count(tree, name) == length, f"{name.decode()} of tree {number} has another length"
            )
    children = sorted(_ints(tree, b"left_child") + _ints(tree, b"right_child"))
    # Every leaf (as -1 - leaf) and every split but the root is the child of exactly one split.
    _require(
        children == [*range(-leaves, 0), *range(1, leaves - 1)], f"tree {number} is not a tree"
    )
    _require(
        all(0 <= feature < columns for feature in _ints(tree, b"split_feature")),
        f"tree {number} splits on a column that is not there",
    )
    _check_categories(tree, number)


def _check_categories(tree: Fields, number: int) -> None:
    """Check that each categorical split names a set, and that the sets fill their words."""
    sets = _int(tree, b"num_cat")
    _require(sets >= 0, f"tree {number} has a negative number of category sets")
    if sets:
        bounds = _ints(tree, b"cat_boundaries")
        words = len(_ints(tree, b"cat_threshold"))
        _require(
            len(bounds) == sets + 1
            and bounds == sorted(bounds)
            and (bounds[0], bounds[-1]) == (0, words),
            f"the category sets of tree {number} do not fit",
        )
    kinds = _ints(tree, b"decision_type")
    for kind, threshold in zip(kinds, tree[b"threshold"].split(), strict=True):
        _require(0 <= kind < 16, f"tree {number} has an unknown kind of split")
        if kind & _CATEGORICAL:
            _require(
                0 <= float(threshold) < sets,
                f"tree {number} names a category set that is not there",
            )


def _fields(block: bytes) -> dict[bytes, bytes]:
    """Return the fields of a block: a line each, as ``name=value``, and no empty line."""
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, separator, value = line.partition(b"=")
        shown = name[:40].decode(errors="replace")
        _require(bool(separator) and b"=" not in value, f"the line {shown!r} is not name=value")
        _require(name not in fields, f"{shown} comes twice")
        fields[name] = value
    return fields


def _count(fields: Fields, name: bytes) -> int:
    """Return how many numbers a field holds; each must be one that the parser can read."""
    value = fields[name].rstrip(b" ")
    _require(bool(_NUMBERS.fullmatch(value)), f"{name.decode()} holds something but numbers")
    return value.count(b" ") + 1


def _ints(fields: Fields, name: bytes) -> list[int]:
    value = fields[name].rstrip(b" ")
    _require(bool(_INTEGERS.fullmatch(value)), f"{name.decode()} holds something but integers")
    return [int(part) for part in value.split(b" ")]


def _int(fields: Fields, name: bytes) -> int:
    numbers = _ints(fields, name)
    _require(len(numbers) == 1, f"{name.decode()} is not one integer")
    return numbers[0]


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)
