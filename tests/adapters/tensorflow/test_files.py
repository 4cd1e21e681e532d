"""Hostile SavedModels. They are read without TensorFlow, so they are tested without."""

import struct
import zipfile
from contextlib import suppress
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.adapters.tensorflow import checkpoint, pack, planner
from feilun.adapters.tensorflow import checksum as checksum_module
from feilun.adapters.tensorflow.checkpoint import Checkpoint
from feilun.adapters.tensorflow.checksum import crc, masked
from feilun.adapters.tensorflow.folder import unpack
from feilun.adapters.tensorflow.messages import SCHEMA
from feilun.adapters.tensorflow.protobuf import Reader
from feilun.adapters.tensorflow.saved_model import read_saved_model, score
from feilun.errors import FeilunError, ModelError
from feilun.testing import saved_models
from feilun.testing.saved_models import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    TEXT,
    Called,
    Signature,
    Type,
    archive,
    checksum,
    dense,
    function,
    message,
    node,
    saved_model,
    table,
    varint,
)

X = node("x", "Placeholder")
FILES = dense(2)[0]
with patch.object(saved_models, "checksum", lambda data: bytes(4)):
    UNCHECKED = dense(2)[0]
ROWS = np.array([[1, 2], [3, 5]], np.float32)


def ending(*nodes, at="y:0", functions=(), shape=(-1,), **more):
    """Return a model of two columns that gives what a node gives."""
    signature = Signature({"x": ("x:0", FLOAT, (-1, 2))}, {"y": (at, FLOAT, shape)})
    return archive(saved_model([X, *nodes], signature, functions, **more))


def refused(data, reason):
    with pytest.raises(ModelError, match=reason) as error:
        score(read_saved_model(data, 2), ROWS)
    return error.value


SUM = (node("axis", "Const", value=np.array(1, np.int32)), node("y", "Sum", "x", "axis"))


def test_what_is_known_is_run():
    assert score(read_saved_model(ending(*SUM), 2), ROWS).tolist() == [3.0, 8.0]


@pytest.mark.parametrize(
    "operator",
    ["WriteFile", "ReadFile", "PyFunc", "EagerPyFunc", "RestoreV2", "SaveV2", "AssignVariableOp",
     "MatchingFiles", "DecodeWav", "XlaLaunch", "RemoteCall", "LookupTableImportV2", "__class__",
     "RandomUniform", ""],
)  # fmt: skip
def test_nothing_else_is_called(operator):
    said = refused(ending(node("y", operator, "x")), f"it calls {operator}, which is not among")
    assert "tf2onnx" in said.hint


def test_an_operator_behind_a_control_is_seen_too():
    refused(ending(SUM[0], node("evil", "WriteFile", "x"), node("y", "Sum", "x", "axis", "^evil")),
            "WriteFile")  # fmt: skip
    body = [node("evil", "WriteFile", "a"), node("same", "Identity", "a")]
    called = function("f", ["a"], {"r": "same:output:0"}, body, controls=["evil"])
    call = node("call", "StatefulPartitionedCall", "x", f=Called("f"))
    refused(ending(SUM[0], call, node("y", "Sum", "call", "axis"), functions=[called]), "WriteFile")


def test_a_branch_that_is_not_taken_is_seen_too():
    yes = function("yes", ["a"], {"r": "a"}, [])
    evil = function("evil", ["a"], {"r": "w:contents:0"}, [node("w", "ReadFile", "a")])
    nodes = [
        *SUM[:1],
        node("all", "Const", value=np.array([0, 1], np.int32)),
        node("total", "Sum", "x", "all"),
        node("nought", "Const", value=np.array(0, np.float32)),
        node("test", "Greater", "total", "nought"),
        node("if", "If", "test", "x", then_branch=Called("yes"), else_branch=Called("evil")),
        node("y", "Sum", "if", "axis"),
    ]
    refused(ending(*nodes, functions=[yes, evil]), "ReadFile")
    no = function("evil", ["a"], {"r": "n:y:0"}, [node("n", "Neg", "a")])
    assert score(read_saved_model(ending(*nodes, functions=[yes, no]), 2), ROWS).tolist() == [3, 8]


@pytest.mark.parametrize("reads", [False, True])
def test_what_changes_the_variables_that_it_reads_is_refused(reads):
    operator, inputs = ("AddV2", ["value:value:0"]) if reads else ("Identity", [])
    body = [
        node("value", "ReadVariableOp", "v"),
        node("set", "AssignVariableOp", "v", "value:value:0"),
        node("last", operator, "a", *inputs, "^set"),
    ]
    called = function("f", ["a", "v"], {"r": "last:z:0"}, body, controls=["set"])
    nodes = [
        node("v", "VarHandleOp", shared_name=b"v"),
        node("call", "StatefulPartitionedCall", "x", "v", f=Called("f")),
        SUM[0],
        node("y", "Sum", "call", "axis"),
    ]
    data = ending(*nodes, functions=[called], variables={"v": np.zeros((1, 2), np.float32)})
    if reads:
        refused(data, "changes its own variables while it scores")
    else:
        assert score(read_saved_model(data, 2), ROWS).tolist() == [3.0, 8.0]


def loop(test, times=3):
    """Return a model that adds its sum to itself as long as a test holds."""
    body = [
        node("one", "Const", value=np.array(1, np.int32)),
        node("n", "AddV2", "i", "one:output:0"),
        node("s", "AddV2", "sum", "x"),
    ]
    arguments = ["i", "sum", "x", "end"]
    results = {"i2": "n:z:0", "s2": "s:z:0", "x2": "x", "e2": "end"}
    turn = function("body", arguments, results, body)
    stop = function("test", arguments, {"r": "t:z:0"}, [node("t", test, "i", "end")])
    called = {"cond": Called("test"), "body": Called("body")}
    nodes = [
        SUM[0],
        node("sum", "Sum", "x", "axis"),
        node("start", "Const", value=np.array(0, np.int32)),
        node("end", "Const", value=np.array(times, np.int32)),
        node("while", "While", "start", "sum", "sum", "end", **called),
    ]
    return ending(*nodes, at="while:1", functions=[turn, stop])


def test_loops_end():
    assert score(read_saved_model(loop("Less"), 2), ROWS).tolist() == [12.0, 32.0]
    refused(loop("GreaterEqual", -1), "turns more than")


def test_functions_that_call_themselves_or_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(planner, "MAX_STEPS", 1000)
    again = function(
        "f", ["a"], {"r": "c:output:0"}, [node("c", "PartitionedCall", "a", f=Called("f"))]
    )
    call = node("y", "PartitionedCall", "x", f=Called("f"))
    refused(ending(call, functions=[again]), "too deeply")
    many = [
        function(f"f{n}", ["a"], {"r": "d:output:0"}, [
            node("c", "PartitionedCall", "a", f=Called(f"f{n + 1}")),
            node("d", "PartitionedCall", "c:output:0", f=Called(f"f{n + 1}"))])
        for n in range(20)
    ]  # fmt: skip
    last = function("f20", ["a"], {"r": "a"}, [])
    refused(ending(node("y", "PartitionedCall", "x", f=Called("f0")), functions=[*many, last]),
            "too many steps")  # fmt: skip
    refused(ending(node("y", "PartitionedCall", "x", f=Called("g"))), "a function that it has not")


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("y", "Neg", "z"), node("z", "Neg", "y")], "in a circle"),
        ([node("y", "Neg", "nowhere")], "no node nowhere"),
        ([node("y", "Neg", "x:3")], "which is nothing"),
        ([node("y", "Neg", "x:x")], "which is nothing"),
        ([node("y", "Neg", "x"), node("y", "Neg", "x")], "one name"),
        ([node("y", "Neg")], "Neg fails|argument"),
        ([node("y", "Sum", "x", "x")], "gave numbers|out of bounds|axis"),
        ([node("y", "Cast", "x")], "DstT"),
        ([node("y", "Cast", "x", DstT=Type(21))], "type 21"),
        ([node("y", "PartitionedCall", "x", f=1)], "no function"),
        ([node("y", "VarHandleOp", shared_name=b"v")], "gave numbers"),
        ([node("v", "VarHandleOp"), node("y", "ReadVariableOp", "v")], "no value"),
        ([node("y", "Identity", "x")], "gave numbers of shape"),
    ],
)
def test_graphs_that_are_none(nodes, reason):
    refused(ending(*nodes), reason)


def test_what_a_model_refuses_is_said():
    nodes = [
        node("nought", "Const", value=np.array(0, np.float32)),
        node("above", "Greater", "x", "nought"),
        node("said", "Const", value=np.array(b"only what is above 0", object)),
        node("check", "Assert", "above", "said"),
        SUM[0],
        node("y", "Sum", "x", "axis", "^check"),
    ]
    model = read_saved_model(ending(*nodes), 2)
    assert score(model, ROWS).tolist() == [3.0, 8.0]
    with pytest.raises(ModelError, match="only what is above 0"):
        score(model, -ROWS)


def test_tables_are_filled_from_the_graph_and_from_files():
    nodes = [
        node(
            "one", "HashTableV2", key_dtype=Type(INT64), value_dtype=Type(FLOAT), shared_name=b"a"
        ),
        node("two", "HashTableV2", key_dtype=Type(TEXT), value_dtype=Type(INT64)),
        node("keys", "Const", value=np.array([3, 8])),
        node("values", "Const", value=np.array([0.5, 2.5], np.float32)),
        node("path", "Placeholder"),
        node("fill", "LookupTableImportV2", "one", "keys", "values"),
        node("read", "InitializeTableFromTextFileV2", "two", "path", key_index=-2, value_index=-1),
        node("first", "NoOp", "^fill", "^read"),
        *SUM,
        node("sum", "Cast", "y", DstT=Type(INT64)),
        node("other", "Const", value=np.array(-1, np.float32)),
        node("found", "LookupTableFindV2", "one", "sum", "other"),
        node("text", "AsString", "sum"),
        node("none", "Const", value=np.array(-9)),
        node("line", "LookupTableFindV2", "two", "text", "none"),
        node("float", "Cast", "line", DstT=Type(FLOAT)),
        node("end", "AddV2", "found", "float"),
    ]
    given = {"first": "first", "assets": {"words.txt": ("path", "a\n八\n8\n".encode())}}
    model = read_saved_model(ending(*nodes, at="end:0", **given), 2)
    assert score(model, ROWS).tolist() == [0.5 - 9, 2.5 + 2]
    without = {"first": "first", "assets": {"../../etc/passwd": ("path", b"")}}
    refused(ending(*nodes, at="end:0", **without), "no archive that feilun made")
    refused(ending(*nodes, at="end:0", first="first"), "path|Placeholder")


def test_codes_become_the_texts_they_stand_for(tmp_path):
    nodes = [
        node("city", "Placeholder"),
        node("table", "HashTableV2", key_dtype=Type(TEXT), value_dtype=Type(FLOAT)),
        node("keys", "Const", value=np.array([b"", "北京".encode(), b"x"], object)),
        node("values", "Const", value=np.array([9, 1, 2], np.float32)),
        node("first", "LookupTableImportV2", "table", "keys", "values"),
        node("other", "Const", value=np.array(-1, np.float32)),
        node("found", "LookupTableFindV2", "table", "city", "other"),
        node("y", "AddV2", "found", "x"),
    ]
    inputs = {"city": ("city:0", TEXT, (-1,)), "price": ("x:0", FLOAT, (-1,))}
    signature = Signature(inputs, {"y": ("y:0", FLOAT, (-1,))})
    files = saved_model([X, *nodes], signature, first="first")
    folder = saved_models.write(tmp_path / "saved", files)
    data = pack(folder, 1 << 20, {0: ["上海", "北京", "x"]})
    rows = np.array([[1, 0.5], [2, 0.5], [0, 0.5], [np.nan, 0.5], [7, 0.5]], np.float32)
    assert score(read_saved_model(data, 2), rows).tolist() == [1.5, 2.5, -0.5, 9.5, 9.5]
    refused(pack(folder, 1 << 20, {1: ["x"]}), "input city takes texts")


def test_inputs_and_outputs_that_do_not_fit():
    def of(inputs, outputs):
        return archive(saved_model([X, *SUM], Signature(inputs, outputs)))

    fit, out = {"x": ("x:0", FLOAT, (-1, 2))}, {"y": ("y:0", FLOAT, (-1,))}
    refused(of({"x": ("x:0", FLOAT, (32, 2))}, out), "fixed number of rows")
    refused(of({"x": ("x:0", TEXT, (-1, 2))}, out), "takes texts; its feature must be one of")
    refused(of({"x": ("", FLOAT, (-1, 2))}, out), "no tensor")
    refused(of({"x": ("x:0", 20, (-1, 2))}, out), "no tensor")
    refused(of({}, out), "takes no inputs")
    refused(of(fit, {"y": ("y:0", INT32, (-1,))}), "outputs y; one of floats is needed")
    refused(of(fit, {"a": ("y:0", FLOAT, (-1,)), "b": ("y:0", FLOAT, (-1,))}), "outputs a, b")
    both = {"classes": ("x:0", BOOL, (-1,)), "logits": ("x:0", FLOAT, (-1,)), "scores": out["y"]}
    assert score(read_saved_model(of(fit, both), 2), ROWS).tolist() == [3.0, 8.0]


def test_of_two_classes_the_second_counts():
    data = ending(node("y", "Softmax", "x"), shape=(-1, 2))
    found = score(read_saved_model(data, 2), ROWS)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(ROWS[:, 0] - ROWS[:, 1])), rtol=1e-6)


def reading(entries, data=b""):
    files = {"variables/variables.index": table(entries)}
    files["variables/variables.data-00000-of-00001"] = data
    return Checkpoint(Reader(SCHEMA), files)


def entry(shape, start, size, dtype=FLOAT, slices=(), data=b""):
    said = (1, dtype), (2, saved_models.shape(shape)), (4, start), (5, size)
    crc = varint(6 << 3 | 5) + checksum(data[max(start, 0) : start + size])
    return message(*said, *((7, each) for each in slices)) + crc


def test_variables_lie_within_their_bytes():
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    data = numbers.tobytes()
    known = reading({b"": message((1, 1)), b"w": entry((3, 2), 0, 24, data=data)}, data)
    assert known.tensor("w").tolist() == numbers.tolist()
    assert known.tensor("w", "3 2 1,2:-").tolist() == numbers[1:].tolist()
    for said, reason in (
        (entry((3, 2), 4, 24), "cut off"),
        (entry((3, 2), -4, 24), "cut off"),
        (entry((3, 3), 0, 24), "another size"),
        (entry((1 << 40,), 0, 24), "too large"),
        (entry((-3, -2), 0, 24), "impossible"),
        (entry((3, 2), 0, 24, 21), "type 21"),
        (entry((3, 2), 0, 24, data=bytes(24)), "its variable w is damaged"),
    ):
        with pytest.raises(ValueError, match=reason):
            reading({b"w": said}, data).tensor("w")
    with pytest.raises(ValueError, match="has no v"):
        known.tensor("v")
    with pytest.raises(ValueError, match="byte order"):
        reading({b"": message((2, 1))})


def test_variables_in_parts_are_joined():
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    below = message((1, message((1, 0), (2, 2))), (1, b""))
    above = message((1, message((1, 2), (2, 1))), (1, b""))
    whole = entry((3, 2), 0, 0, slices=[above, below])
    data = numbers.tobytes()
    parts = {
        b"\0w\0\1\1\2\x80\x82": entry((2, 2), 0, 16, data=data),
        b"\0w\0\1\1\2\x82": entry((1, 2), 16, 8, data=data),
    }
    known = reading({b"w": whole, **parts}, data)
    assert known.tensor("w").tolist() == numbers.tolist()
    with pytest.raises(ValueError, match=r"\w"):
        reading({b"w": whole}, data).tensor("w")
    twice = entry((3, 2), 0, 0, slices=[below, below])
    with pytest.raises(ValueError, match="do not fit"):
        reading({b"w": twice, **parts}, data).tensor("w")


def test_texts_are_variables_too():
    texts = [b"a", "八".encode()]
    data = b"".join(varint(len(text)) for text in texts) + bytes(4) + b"".join(texts)
    known = reading({b"w": entry((2,), 0, len(data), TEXT)}, data)
    assert known.tensor("w").tolist() == texts
    with pytest.raises(ValueError, match="cut off"):
        reading({b"w": entry((3,), 0, len(data), TEXT)}, data).tensor("w")


def test_tables_that_are_none():
    sound = FILES["variables/variables.index"]
    compressed = bytearray(table({}))
    compressed[8] = 1
    flipped = bytearray(sound)
    flipped[20] ^= 4
    for data, reason in (
        (b"", "no table"),
        (sound[:-1], "no table"),
        (sound[60:], "cut off|damaged|compressed"),
        (bytes(compressed), "compressed"),
        (bytes(flipped), "damaged"),
    ):
        refused(archive({**FILES, "variables/variables.index": data}), reason)


def test_blocks_that_overlap_are_refused():
    block = bytes(3 + 80) + struct.pack("<I", 20)  # one entry of nothing
    handle = varint(0) + varint(len(block))
    index = b"".join(varint(0) + varint(1) + varint(len(handle)) + b"%c" % n + handle
                     for n in range(65, 80)) + struct.pack("<II", 0, 1)  # fmt: skip
    data = saved_models.joined(block, index)
    with pytest.raises(ValueError, match="damaged"):
        Checkpoint(Reader(SCHEMA), {"variables/variables.index": data})


def test_a_small_constant_does_not_stand_for_a_large_one():
    large = message((1, FLOAT), (2, saved_models.shape((1 << 30,))), (5, 1.0))
    said = message((1, "y"), (2, "Const"), (5, message((1, "value"), (2, message((8, large))))))
    refused(ending(said), "too large")
    little = message((1, FLOAT), (2, saved_models.shape((3,))), (5, 1.0), (5, 2.0))
    said = message((1, "y"), (2, "Const"), (5, message((1, "value"), (2, message((8, little))))))
    total = (
        node("s", "Sum", "x", "axis"),
        node("z", "Max", "y", "axis0"),
        node("e", "AddV2", "s", "z"),
    )
    axes = SUM[0], node("axis0", "Const", value=np.array(0, np.int32))
    found = score(read_saved_model(ending(said, *axes, *total, at="e:0"), 2), ROWS)
    assert found.tolist() == [5.0, 10.0]


def test_too_much_in_a_message_is_refused():
    assert len(Reader(SCHEMA, 1000).read("Names", message((1, b"")) * 1000)["value"]) == 1000
    for kind, data in (("Names", message((1, b"")) * 1001), ("Tensor", message((7, bytes(1001))))):
        with pytest.raises(ValueError, match="too much"):
            Reader(SCHEMA, 1000).read(kind, data)


def test_a_folder_is_packed_without_what_is_not_needed(tmp_path):
    folder = saved_models.write(tmp_path / "saved", FILES)
    data = pack(folder, 1 << 20)
    for name in ("fingerprint.pb", "assets/words", "variables/other", "assets.extra/x", "a.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    assert sorted(unpack(pack(folder, 1 << 20))) == sorted([*FILES, "assets/words"])
    (folder / "assets" / "words").unlink()
    assert pack(folder, 1 << 20) == data == archive(FILES)
    with pytest.raises(ModelError, match="more than 100 bytes"):
        pack(folder, 100)
    (tmp_path / "secret").write_bytes(b"key")
    (folder / "assets" / "words").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="a link to a file outside"):
        pack(folder, 1 << 20)


@pytest.mark.parametrize("name", ["../saved_model.pb", "/etc/passwd", "assets/../x", "assets/a/b"])
def test_an_archive_holds_nothing_else(name):
    refused(archive({**FILES, name: b""}), "no archive that feilun made")


def test_an_archive_is_not_compressed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in FILES.items():
            made.writestr(name, data)
    refused((tmp_path / "a.zip").read_bytes(), "adopt the folder itself")


def test_what_is_damaged_next_is_sound():
    with patch.object(checkpoint, "masked", lambda data: 0):
        assert score(read_saved_model(archive(UNCHECKED), 2), ROWS).shape == (2,)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_its_bytes_are_it_is_read_or_refused(data):
    name = data.draw(st.sampled_from(["saved_model.pb", "variables/variables.index"]))
    sound = UNCHECKED[name]
    at = data.draw(st.integers(0, len(sound)))
    piece = data.draw(st.binary(max_size=4))
    skip = data.draw(st.integers(0, 4))
    damaged = sound[:at] + piece + sound[at + skip :]
    # Checksums would hide what lies behind them.
    with patch.object(checkpoint, "masked", lambda data: 0), suppress(FeilunError):
        score(read_saved_model(archive({**UNCHECKED, name: damaged}), 2), ROWS)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise):
    for files in ({"saved_model.pb": noise}, {**FILES, "variables/variables.index": noise}):
        with pytest.raises(ModelError):
            read_saved_model(archive(files), 2)


@given(st.binary(max_size=6000), st.integers(0, 3))
def test_checksums_are_crc_32c(data, cut):
    assert masked(memoryview(data)[cut:]).to_bytes(4, "little") == checksum(data[cut:])


def test_checksums_of_much_are_those_of_its_parts(monkeypatch):
    data = np.random.default_rng(0).bytes(5000)
    whole = crc(data)
    monkeypatch.setattr(checksum_module, "_CHUNK", 512)
    assert crc(data) == whole
