"""A hostile TorchScript file. It is read without PyTorch, so it is tested without."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.adapters.torch import pickled
from feilun.adapters.torch.interpreter import Interpreter
from feilun.adapters.torch.pickled import read_pickle
from feilun.adapters.torch.script import MAX_SOURCE, read_script
from feilun.errors import ModelError

SOURCE = """
class M(Module):
  training : bool
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return BODY
"""
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
    b"X\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\x00(K\x02K\x02t(K\x02K\x01t\x89"
    b"ccollections\nOrderedDict\n)RtR"
)
"""A tensor [2, 2] in the storage ``0``, as PyTorch writes it."""


def module(**attributes):
    """Return the pickle of a module; each attribute in opcodes."""
    items = b"".join(
        b"X" + len(name).to_bytes(4, "little") + name.encode() + value
        for name, value in attributes.items()
    )
    return b"\x80\x02c__torch__\nM\n)\x81}(" + items + b"ub."


def archive(body="x", *, data=None, kind=zipfile.ZIP_STORED, **files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as made:
        made.writestr("m/data.pkl", module(training=b"\x89") if data is None else data)
        made.writestr("m/constants.pkl", b"\x80\x02).")
        made.writestr("m/code/__torch__.py", SOURCE.replace("BODY", body))
        for name, text in files.items():
            made.writestr(name, text)
    return buffer.getvalue()


def refused(data, reason):
    with pytest.raises(ModelError, match=reason) as error:
        read_script(data)
    assert "torch.onnx.export" in error.value.hint


def run(body, value):
    script = read_script(archive(body))
    return Interpreter(script, (), pytest.fail).call("forward", script.module, value)


def test_plain_values_are_computed_as_torchscript_does():
    assert run("torch.floordiv(torch.add(x, 3), 2)", 4) == 3
    assert run("torch.div(x, 2)", 3) == 1.5
    assert run('torch.format("{} of 100%: {}", x, [1])', 7) == "7 of 100%: [1]"
    assert run("[-1, inf, x][torch.len([x])]", 0) == float("inf")
    assert run("annotate(Optional[int], None)", 0) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("torch.from_file(x)", "from_file"),
        ("ops.prim.PythonOp(x)", "PythonOp"),
        ("torch.ops.aten.relu(x)", "ops.aten.relu"),
        ("__torch__.torch.classes.mine.Runner(x)", "classes.mine.Runner"),
        ("CONSTANTS.x", "invalid literal"),
        ("[y for y in x]", "computes what is not known"),
        ("(lambda: x)()", "calls what is not known"),
        ("x if x else x", "computes what is not known"),
        ("torch.relu(*x)", "computes what is not known"),
        ("b'x'", "computes what is not known"),
        ("x\n    self.training = True", "it changes self.training"),
        ("x\n    import os", "does what is not known"),
        ("x\n    with x: pass", "does what is not known"),
        ("(" * 300 + "x" + ")" * 300, "too many nested|parenthes"),
        ("-" * 200_000 + "1", "cannot be run"),
    ],
)
def test_nothing_but_what_is_known(body, reason):
    refused(archive(body), reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (module(training=b"\x88"), "eval"),
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", "it calls os.system"),
        (b"\x80\x02cos\nsystem\n)\x81.", "unknown class"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "another protocol"),
        (b"\x80\x02\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE"),
        (b"\x80\x02(X\x02\0\0\0idios\nsystem\n.", "opcode INST"),
        (b"\x80\x02c__torch__\nM\n)\x81X\x01\0\0\0ab.", "state of its own"),
        (b"\x80\x02K\x01.", "holds no module"),
        (module(weight=TENSOR), "no '0'"),
        (module(a=b"ctorch.jit._pickle\nbuild_other\n]\x85R"), "build_other"),
        (module()[:-1], "cannot be run"),
    ],
)
def test_its_pickle_is_data(data, reason):
    refused(archive(data=data), reason)


def test_tensors_lie_within_their_bytes():
    storages = {"0": np.arange(4, dtype="<f4").tobytes()}
    said = b"\x80\x02" + TENSOR + b"."
    assert read_pickle(said, storages).tolist() == [[0.0, 1.0], [2.0, 3.0]]
    for old, new, reason in (
        (b"(K\x02K\x01t", b"(K\x64K\x01t", "cut off"),
        (b"QK\x00", b"QK\x01", "cut off"),
        (b"(K\x02K\x01t", b"(J\xff\xff\xff\xffK\x01t", "whole number"),
        (b"FloatStorage", b"BFloat16Storage", "BFloat16"),
    ):
        assert old in said
        with pytest.raises(ValueError, match=reason):
            read_pickle(said.replace(old, new), storages)


def test_a_little_that_is_said_to_be_much_is_not_made():
    huge = TENSOR.replace(b"(K\x02K\x02t(K\x02K\x01t", b"(J\0\0\0\x20K\x02t(K\x00K\x00t")
    with pytest.raises(ValueError, match="larger than its bytes"):
        read_pickle(b"\x80\x02" + huge + b".", {"0": bytes(16)})


def test_many_that_share_their_bytes_are_counted_together(monkeypatch):
    monkeypatch.setattr(pickled, "MAX_UNPACKED", 100)
    many = b"\x80\x02](" + TENSOR * 7 + b"e."
    with pytest.raises(ValueError, match="too large"):
        read_pickle(many, {"0": bytes(16)})


@given(st.binary(max_size=200), st.integers(0, 200), st.binary(max_size=3))
def test_whatever_its_pickle_is_it_is_read_or_refused(noise, at, piece):
    sound = module(weight=TENSOR)
    for data in (noise, sound[:at] + piece + sound[at + len(piece) :]):
        try:
            read_script(archive(data=data, **{"m/data/0": bytes(16)}))
        except ModelError as error:
            assert error.hint


def test_a_bomb_is_not_unpacked():
    refused(archive(data=b" " * (8 << 20), kind=zipfile.ZIP_DEFLATED), "compressed")
    refused(archive("x #" + " " * (MAX_SOURCE + 1)), "too long")


def test_python_itself_would_run_such_a_pickle(tmp_path):
    marker = tmp_path / "marker"
    text = str(marker).encode()
    evil = b"\x80\x02cos\nmkdir\nX" + len(text).to_bytes(4, "little") + text + b"\x85R."
    pickle.loads(evil)
    assert marker.exists()
    marker.rmdir()
    refused(archive(data=evil), "it calls os.mkdir")
    assert not marker.exists()
