"""Exported programs of PyTorch: run by a worker, and nothing else of the file is believed."""

import io
import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from feilun.adapters.torch import ExportedProgramLoader
from feilun.adapters.torch.program import read_program
from feilun.errors import ModelError
from feilun.models.formats import recognise
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam

torch = pytest.importorskip("torch", reason="PyTorch is large: pip install 'feilun[torch]'")
pytestmark = pytest.mark.filterwarnings("ignore")
MARKER = Path(tempfile.gettempdir()) / f"feilun-torch-marker-{os.getpid()}"


def exported(module, columns=COLUMNS, dynamic=True):
    torch.manual_seed(0)
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    example = torch.zeros(3, columns)
    program = torch.export.export(module().eval(), (example,), dynamic_shapes=shapes)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue(), program.module()


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(COLUMNS, 8),
            torch.nn.ReLU(),
            torch.nn.BatchNorm1d(8),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(8, 1),
        )

    def forward(self, x):
        return torch.sigmoid(self.layers(torch.nan_to_num(x))).squeeze(-1)


class Wide(torch.nn.Module):
    """What tables are given to: an embedded category, a residual, normalisation, slices."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.inner = torch.nn.Linear(COLUMNS + 3, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.out = torch.nn.Linear(16, 1)

    def forward(self, x):
        code = x[:, 3].long().clamp(0, 9)
        wide = torch.cat([x[:, :3], self.embedding(code)], dim=1)
        hidden = torch.nn.functional.gelu(self.inner(wide))
        return self.out(self.norm(hidden + hidden.mean(dim=1, keepdim=True)))


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(1, 8)
        self.out = torch.nn.Linear(8, 1)

    def forward(self, x):
        h = self.up(x.unsqueeze(-1))
        h = torch.nn.functional.scaled_dot_product_attention(h, h, h)
        return self.out(h.reshape(x.shape[0], -1, 8).mean(dim=1)).reshape(x.shape[0])


class ProgramExam(ScorerLoaderExam):
    def make(self):
        return ExportedProgramLoader()

    def sample(self):
        data, module = exported(self.module)
        assert recognise(data) == "torch-export/1"
        x = np.random.default_rng(2).normal(size=(200, COLUMNS)).astype(np.float32)
        if self.module is Mlp:
            x[np.random.default_rng(3).random(x.shape) < 0.1] = np.nan
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy().reshape(-1).astype(float)
        return Sample(data, x, expected, close=1e-5)


class TestMlp(ProgramExam):
    module = Mlp


class TestWide(ProgramExam):
    module = Wide


class TestAttention(ProgramExam):
    module = Attention


class Exploit:
    def __reduce__(self):
        return os.mkdir, (str(MARKER),)


def changed(data, change):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


def in_model(old, new):
    def change(name, text):
        if name.endswith("/models/model.json"):
            assert old in text
            return text.replace(old, new, 1)
        return text

    return change


def in_config(name, text):
    if name.endswith("weights_config.json"):
        return text.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
    return pickle.dumps(Exploit()) if name.endswith("weights/weight_0") else text


@pytest.fixture
def mlp():
    yield exported(Mlp)[0]
    if MARKER.exists():
        MARKER.rmdir()


def test_pytorch_itself_would_run_what_is_in_the_file(mlp):
    evil = io.BytesIO()
    torch.save(Exploit(), evil)
    data = changed(mlp, lambda name, old: evil.getvalue() if "sample_inputs" in name else old)
    with pytest.raises(Exception):  # noqa: B017  it fails, after it has run it
        torch.export.load(io.BytesIO(data))
    assert MARKER.exists()
    MARKER.rmdir()
    # Here the sample inputs are not looked at: the rest is the same model.
    rows = np.zeros((2, COLUMNS), np.float32)
    here = ExportedProgramLoader().load(data, COLUMNS).score(rows)
    assert here.tolist() == ExportedProgramLoader().load(mlp, COLUMNS).score(rows).tolist()
    assert not MARKER.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (in_config, "is a pickle"),
        (
            in_model(b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"),
            "from_file",
        ),
        (in_model(b"torch.ops.aten.relu.default", b"torch.os.system"), "torch.os.system"),
        (in_model(b"torch.ops.aten.relu.default", b"torch.ops.aten.relu.__class__"), "no operator"),
        (in_model(b"torch.ops.aten.relu.default", b"torch.ops.aten._dir.default"), "_dir"),
        (in_model(b'"major": 8', b'"major": 9'), "schema 9"),
        (in_model(b'"as_int": -1', b'"as_graph": {}'), "kind as_graph"),
    ],
)
def test_nothing_but_known_operators_and_plain_weights(mlp, change, reason):
    with pytest.raises(ModelError, match=reason):
        ExportedProgramLoader().load(changed(mlp, change), COLUMNS)
    assert not MARKER.exists()


def test_a_fixed_number_of_rows_is_refused():
    with pytest.raises(ModelError, match="dynamic first dimension"):
        read_program(exported(Mlp, dynamic=False)[0], COLUMNS)


def test_weights_that_reach_outside_their_bytes_are_refused(mlp):
    def change(name, text):
        if not name.endswith("weights_config.json"):
            return text
        config = json.loads(text)
        meta = config["config"]["layers.0.weight"]["tensor_meta"]
        meta["strides"][0]["as_int"] = 10_000
        return json.dumps(config).encode()

    with pytest.raises(ModelError, match="cut off"):
        read_program(changed(mlp, change), COLUMNS)
