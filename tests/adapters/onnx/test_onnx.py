"""ONNX by ONNX Runtime: which output counts, and that a file names nothing outside itself."""

import random

import numpy as np
import pytest

from feilun.adapters.onnx import OnnxLoader
from feilun.adapters.onnx.graph import check_graph
from feilun.errors import MissingExtra, ModelError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
WEIGHTS = np.array([1.0, 2.0], np.float32)
ROWS = np.array([[1, 1], [2, 0]], np.float32)


def model(nodes=None, outputs=None, shape=("rows", 2), kind=FLOAT, weights=None, inputs=None):
    weights = weights or helper.make_tensor("w", FLOAT, [2], WEIGHTS)
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["x", "w"], ["score"])],
        "g",
        inputs or [helper.make_tensor_value_info("x", kind, shape)],
        outputs or [helper.make_tensor_value_info("score", FLOAT, None)],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("other", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def load(made, columns=2):
    return OnnxLoader().load(made.SerializeToString(), columns)


def test_the_width_may_be_open():
    for shape in (("rows", 2), ("rows", "columns"), (None, 2)):
        assert load(model(shape=shape)).score(ROWS).tolist() == [3, 2]


@pytest.mark.parametrize("shape", [(1, 2), ("rows", 3), ("rows",), ("rows", 2, 1)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(ModelError, match=r"shape|refused"):
        load(model(shape=shape))


def test_several_inputs_or_other_numbers_are_refused():
    both = [helper.make_tensor_value_info(name, FLOAT, ["rows", 2]) for name in ("x", "z")]
    with pytest.raises(ModelError, match="one input of"):
        load(model(inputs=both))
    half = helper.make_tensor("w", onnx.TensorProto.DOUBLE, [2], WEIGHTS)
    with pytest.raises(ModelError, match="one input of"):
        load(
            model(
                kind=onnx.TensorProto.DOUBLE,
                weights=half,
                outputs=[helper.make_tensor_value_info("score", onnx.TensorProto.DOUBLE, None)],
            )
        )


def test_two_numbers_a_row_without_labels_are_refused():
    nodes = [helper.make_node("Mul", ["x", "w"], ["score"])]
    with pytest.raises(ModelError, match=r"shape \(2, 2\) for 2 rows"):
        load(model(nodes)).score(ROWS)


def test_of_two_classes_the_second_counts():
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["score"]),
        helper.make_node("ArgMax", ["score"], ["label"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info("label", INT64, None),
        helper.make_tensor_value_info("score", FLOAT, None),
    ]
    assert load(model(nodes, outputs)).score(ROWS).tolist() == [2, 0]


def test_two_outputs_of_floats_are_refused():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["score"]),
        helper.make_node("Neg", ["score"], ["other"]),
    ]
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("score", "other")]
    with pytest.raises(ModelError, match="exactly one output of floats"):
        load(model(nodes, outputs))


def test_weights_in_another_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    made = model()
    tensor = made.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    with pytest.raises(ModelError, match="weights are in another file"):
        load(made)


def test_weights_of_another_file_are_found_wherever_they_hide():
    outside = helper.make_tensor("c", FLOAT, [1], [1.0])
    outside.data_location = onnx.TensorProto.EXTERNAL
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=outside)],
        "inner",
        [],
        [helper.make_tensor_value_info("c", FLOAT, [1])],
    )
    branch = helper.make_node("If", ["flag"], ["score"], then_branch=inner, else_branch=inner)
    with pytest.raises(ModelError, match="weights are in another file"):
        check_graph(model([branch]).SerializeToString())


@pytest.mark.parametrize(("operator", "domain"), [("Own", "other"), ("EPContext", "com.microsoft")])
def test_operators_of_other_libraries_are_refused(operator, domain):
    node = helper.make_node(operator, ["x"], ["score"], domain=domain)
    with pytest.raises(ModelError, match="not a sound ONNX model"):
        load(model([node]))


def test_what_fails_while_scoring_is_a_model_error():
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[7, 7]),
        helper.make_node("Reshape", ["x", "shape"], ["score"]),
    ]
    with pytest.raises(ModelError, match="could not score"):
        load(model(nodes)).score(ROWS)


def test_damaged_files_are_refused_or_score():
    whole = model().SerializeToString()
    chance, refused = random.Random(5), 0
    for _ in range(500):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        try:
            OnnxLoader().load(bytes(changed), 2).score(ROWS)
        except ModelError:
            refused += 1
    assert refused > 100


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"feilun\[onnx\]"):
        load(model())
