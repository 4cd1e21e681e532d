"""What operators give is what TensorFlow gives, which ``operators.jsonl`` has written down."""

import json
from pathlib import Path

import numpy as np
import pytest

from feilun.adapters.tensorflow.saved_model import OPERATORS
from feilun.adapters.tensorflow.texts import fingerprint

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("operators.jsonl").read_text().split("\n")
    if line
]
ELSEWHERE = frozenset(
    """
    Assert EmptyTensorList Identity IdentityN EnsureShape LookupTableExportV2
    LookupTableFind LookupTableFindV2 LookupTableSizeV2 ReadVariableOp ResourceGather
    TensorListFromTensor TensorListGetItem TensorListLength TensorListPopBack
    TensorListPushBack TensorListReserve TensorListSetItem TensorListStack
    VarIsInitializedOp VariableShape
    """.split()  # noqa: SIM905  a word each, not a line
)
"""Operators of variables, tables and lists: whole models have them."""
ALIKE = frozenset(
    """
    Acos Acosh Asin Atanh BatchMatMul BatchMatMulV3 BiasAddV1 Concat Cosh FusedBatchNorm
    FusedBatchNormV2 Gather Inv Invert IsFinite ParallelDynamicStitch PreventGradient
    Snapshot SparseSegmentSqrtNWithNumSegments SparseSegmentSumWithNumSegments StopGradient
    StringJoin StringToHashBucketFast StringToNumber Tan
    """.split()  # noqa: SIM905  a word each, not a line
)
"""Operators that are another's function under another name, or NumPy's alone."""


def called(case):
    """Return what the operator gives, as a list."""
    inputs = []
    for kind, value in case["inputs"].values():
        name, _, each = kind.partition(" ")
        inputs += [np.array(one, name) for one in value] if each else [np.array(value, name)]
    attributes = {
        name: value.get("type", str(value.get("text", "")).encode())
        if isinstance(value, dict)
        else value
        for name, value in case.get("attributes", {}).items()
    }
    name = case["operator"]
    with np.errstate(all="ignore"):
        if name in OPERATORS.plain:
            found = OPERATORS.plain[name](*inputs)
        else:
            found = OPERATORS.shaped[name](attributes, *inputs)
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("case", CASES, ids=[case["operator"] for case in CASES])
def test_an_operator_gives_what_tensorflow_gives(case):
    for found, (kind, value) in zip(called(case), case["results"], strict=False):
        if kind == "bytes":
            assert found.tolist() == [each.encode() for each in value]
            continue
        assert np.asarray(found).dtype == kind
        np.testing.assert_allclose(found, np.array(value, kind), rtol=2e-6, atol=2e-6)


def test_each_operator_is_tried():
    known = set(OPERATORS.plain) | set(OPERATORS.shaped)
    assert known == {case["operator"] for case in CASES} | ELSEWHERE | ALIKE


def test_what_is_written_down_is_what_tensorflow_says():
    tensorflow = pytest.importorskip("tensorflow")
    for case in CASES:
        given = {}
        for name, (kind, value) in case["inputs"].items():
            dtype, _, each = kind.partition(" ")
            given[name] = (
                [tensorflow.constant(one, dtype) for one in value]
                if each
                else tensorflow.constant(value, dtype)
            )
        for name, value in case.get("attributes", {}).items():
            given[name] = value
            if isinstance(value, dict):
                given[name] = value.get("text", tensorflow.as_dtype(value.get("type", 1)))
        said = getattr(tensorflow.raw_ops, case["operator"])(**given)
        said = list(said) if isinstance(said, list | tuple) else [said]
        for one, (kind, value) in zip(said, case["results"], strict=False):
            if kind == "bytes":
                assert [text.decode() for text in one.numpy().tolist()] == value
            else:
                np.testing.assert_allclose(one.numpy(), np.array(value, kind), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("GatherV2", (np.ones(3), np.array([-1]), np.array(0)), {}),
        ("GatherV2", (np.ones(3), np.array([3]), np.array(0)), {}),
        ("GatherNd", (np.ones((2, 2)), np.array([[0, -1]])), None),
        ("FloorDiv", (np.array([1]), np.array([0])), None),
        ("Tile", (np.ones(1 << 20), np.array([1 << 20])), None),
        ("Fill", (np.array([1 << 40]), np.array(1.0)), None),
        ("Range", (np.array(0), np.array(1 << 40), np.array(1)), None),
        ("OneHot", (np.zeros(1 << 16, int), np.array(1 << 16), np.ones(()), np.zeros(())), {}),
        ("Pad", (np.ones(1), np.array([[0, 1 << 40]])), None),
        ("BroadcastTo", (np.ones(1), np.array([1 << 40])), None),
        ("Slice", (np.ones(3), np.array([2]), np.array([2])), None),
        ("SparseToDense", (np.array([[5]]), np.array([2]), np.ones(1), np.zeros(())), None),
        ("UnsortedSegmentSum", (np.ones(2), np.array([0, 5]), np.array(1 << 40)), None),
        ("Cast", (np.array([np.nan], np.float32),), {"DstT": 3}),
        ("Einsum", (np.ones(3),), {"equation": b"a->a,b;"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_outside_or_too_large_is_refused(name, inputs, attributes):
    with pytest.raises(ValueError, match=r"\w"), np.errstate(all="ignore"):
        if attributes is None:
            OPERATORS.plain[name](*inputs)
        else:
            OPERATORS.shaped[name](attributes, *inputs)


def test_texts_are_hashed_as_tensorflow_does():
    for text, bits in (
        (b"7", 590358713228080280),
        (b"hello", 3786372426573024488),
        (b"12345678", 3430003927990384362),
        (b"0123456789abcdef0", 3308798500642334985),
        (bytes(range(40)), 645241335607543436),
        (bytes(range(64)), 3856493858525203531),
    ):
        assert fingerprint(text) % (1 << 62) == bits
    with pytest.raises(ValueError, match="64 bytes"):
        fingerprint(bytes(65))
    join, number = OPERATORS.shaped["StringJoin"], OPERATORS.shaped["StringToNumber"]
    texts = np.array([b"a", b"b"], object), np.array(b"c", object)
    assert join({"separator": b"-"}, *texts).tolist() == [b"a-c", b"b-c"]
    assert number({}, np.array([b"1.5", b"-2"], object)).tolist() == [1.5, -2.0]
