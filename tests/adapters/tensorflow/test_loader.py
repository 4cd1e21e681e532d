"""SavedModels in a worker of their own, by the exam of every loader."""

import numpy as np
import pytest

from feilun.adapters.tensorflow import SavedModelLoader
from feilun.errors import ModelError, WrongColumns
from feilun.testing.saved_models import (
    FLOAT,
    INT64,
    Called,
    Signature,
    Type,
    archive,
    dense,
    function,
    node,
    saved_model,
)
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam


class TestSavedModels(ScorerLoaderExam):
    def make(self):
        return SavedModelLoader()

    def sample(self):
        files, compute = dense(COLUMNS)
        rows = np.random.default_rng(1).normal(size=(50, COLUMNS)).astype(np.float32)
        return Sample(archive(files), rows, compute(rows), close=1e-5)


def two_inputs(first, second):
    """Return a model of a number, and of two whole ones."""
    nodes = [
        node("a", "Placeholder"),
        node("b", "Placeholder"),
        node("axis", "Const", value=np.array(1, np.int32)),
        node("floats", "Cast", "b", DstT=Type(FLOAT)),
        node("sum", "Sum", "floats", "axis"),
        node("score", "Sub", "a", "sum"),
    ]
    inputs = {first: ("a:0", FLOAT, (-1,)), second: ("b:0", INT64, (-1, 2))}
    return archive(saved_model(nodes, Signature(inputs, {"y": ("score:0", FLOAT, (-1,))})))


def test_inputs_take_columns_in_the_order_of_their_names():
    rows = np.array([[9, 1, 2], [5, 0, 4]], np.float32)
    loader = SavedModelLoader()
    data = two_inputs("x_2", "x_10")
    assert loader.column_names(data) == ("x_2", "x_10[0]", "x_10[1]")
    assert loader.load(data, 3).score(rows).tolist() == [6.0, 1.0]
    other = two_inputs("z", "b")
    assert loader.column_names(other) == ("b[0]", "b[1]", "z")
    assert loader.load(other, 3).score(rows).tolist() == [-8.0, -1.0]


def test_what_is_missing_is_no_whole_number():
    scorer = SavedModelLoader().load(two_inputs("a", "b"), 3)
    with pytest.raises(ModelError, match="the input b takes whole numbers, and one is missing"):
        scorer.score(np.array([[1, np.nan, 2]], np.float32))
    assert scorer.score(np.array([[1, 1, 2]], np.float32)).tolist() == [-2.0]


def test_another_number_of_columns_is_told_with_the_names():
    with pytest.raises(WrongColumns) as error:
        SavedModelLoader().load(two_inputs("a", "b"), 5)
    assert (error.value.found, error.value.names) == (3, ("a", "b[0]", "b[1]"))


def test_a_model_that_takes_all_memory_is_refused():
    nodes = [node("x", "Placeholder")]
    body = [
        node("more", "Const", value=np.array([8], np.int32)),
        node("twice", "Tile", "y", "more:output:0"),
    ]
    more = function("more", ["y"], {"y": "twice:output:0"}, body)
    nodes += [node("c0", "Const", value=np.zeros(1 << 20, np.float32))]
    nodes += [node(f"c{n}", "PartitionedCall", f"c{n - 1}", f=Called("more")) for n in range(1, 9)]
    signature = Signature({"x": ("x:0", FLOAT, (-1, 2))}, {"y": ("c8:0", FLOAT, (-1,))})
    with pytest.raises(ModelError, match="a tensor is too large") as error:
        SavedModelLoader().load(archive(saved_model(nodes, signature, [more])), 2)
    assert "tf2onnx" in error.value.hint
