"""A TorchScript file scores as PyTorch itself does, and is never loaded by it."""

import io
import zipfile

import numpy as np
import pytest

from feilun.adapters.torch import ScriptLoader
from feilun.errors import ModelError
from feilun.models.formats import recognise
from feilun.testing.scorer_conformance import COLUMNS, Sample, ScorerLoaderExam

torch = pytest.importorskip("torch", reason="PyTorch is large: pip install 'feilun[torch]'")
nn = torch.nn

from feilun.adapters.torch.worker import load_script  # noqa: E402  it needs PyTorch

pytestmark = pytest.mark.filterwarnings("ignore")


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(COLUMNS, 8),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(8),
            nn.Dropout(0.5),
            nn.Linear(8, 1),
        )

    def forward(self, x):
        return torch.sigmoid(self.layers(torch.nan_to_num(x))).squeeze(-1)


class Flow(nn.Module):
    """Loops, branches, lists, texts, numbers, defaults, and what is changed in place."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(COLUMNS, COLUMNS) for _ in range(3)])
        self.scale = 3

    def twice(self, x, times: float = 2.0):
        return x * times

    def forward(self, x):
        for part in self.parts:
            x = self.twice(part(x))
        columns = []
        for i in range(x.size(1)):
            if i % 2 == 0:
                columns.append(x[:, i] * (i // 2 + self.scale))  # noqa: PERF401  a script's
        out = torch.zeros_like(x[:, 0])
        for place, column in enumerate(columns):
            if place == 5:
                continue
            out = out + column
        n = 0
        while n < 3 and bool((out > -1e30).all()):
            out = out - 1
            n += 1
        if x.size(1) > 1000:
            raise ValueError("it has {} columns".format(x.size(1)))  # noqa: UP032  a script's
        out[:] += float("inf") if n > 100 else 0.5
        return out + torch.where(x[:, 0] > 0, 1.0, -1.0) + torch.full([x.size(0)], 2.0)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 4, batch_first=True)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        hidden, _ = self.lstm(self.gru(x.unsqueeze(-1))[0])
        return self.out(hidden[:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(1, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.code = nn.Embedding(10, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        h = self.up(x.unsqueeze(-1))
        h = self.norm(self.attention(h, h, h)[0]).mean(1)
        return self.out(h + self.code(x[:, 0].long().clamp(0, 9)))


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 4, 3, padding=1),
            nn.ELU(),
            nn.MaxPool1d(2),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(4, 1),
        )

    def forward(self, x):
        return self.layers(x.unsqueeze(1))


def saved(module, how):
    torch.manual_seed(0)
    made = module().eval()
    trace = how == "traced"
    script = torch.jit.trace(made, torch.zeros(3, COLUMNS)) if trace else torch.jit.script(made)
    if how == "frozen":
        script = torch.jit.freeze(script)
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    return buffer.getvalue()


def own(data, rows):
    with torch.no_grad():
        return torch.jit.load(io.BytesIO(data))(torch.from_numpy(rows)).numpy().reshape(-1)


class TestScript(ScorerLoaderExam):
    def make(self):
        return ScriptLoader()

    def sample(self):
        data = saved(Mlp, "scripted")
        assert recognise(data) == "torchscript/1"
        rows = np.random.default_rng(2).normal(size=(200, COLUMNS)).astype(np.float32)
        rows[np.random.default_rng(3).random(rows.shape) < 0.1] = np.nan
        return Sample(data, rows, own(data, rows).astype(float), close=1e-5)


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize("module", [Mlp, Flow, Recurrent, Attention, Convolution])
def test_whatever_it_is_made_of_it_scores_as_pytorch_does(module, how):
    if (module, how) == (Attention, "traced"):
        pytest.skip("PyTorch itself cannot trace it")
    if (module, how) == (Flow, "traced"):
        pytest.skip("a trace of a loop is another model")
    data = saved(module, how)
    rows = np.random.default_rng(4).normal(size=(50, COLUMNS)).astype(np.float32)
    found = load_script(data, COLUMNS).score(rows)
    np.testing.assert_allclose(found, own(data, rows), rtol=1e-5, atol=1e-6)


def changed(data, old, new):
    buffer, times = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(data)) as read, zipfile.ZipFile(buffer, "w") as written:
        for name in read.namelist():
            text = read.read(name)
            times += text.count(old) if name.endswith(".py") else 0
            written.writestr(name, text.replace(old, new) if name.endswith(".py") else text)
    assert times == 1
    return buffer.getvalue()


def test_pytorch_itself_would_write_a_file_while_it_loads_one(tmp_path):
    class Evil(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = 1

        def forward(self, x):
            return x.sum(1)

        @torch.jit.export
        def __getstate__(self):
            return self.kept

        @torch.jit.export
        def __setstate__(self, state: int):
            self.kept = state
            self.training = False
            torch.save(torch.zeros(1), "MARKER")

    marker = tmp_path / "marker"
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Evil()), buffer)
    data = changed(buffer.getvalue(), b'"MARKER"', f'"{marker}"'.encode())
    marker.unlink(missing_ok=True)
    torch.jit.load(io.BytesIO(data))
    assert marker.exists()
    marker.unlink()
    with pytest.raises(ModelError, match="state of its own"):
        load_script(data, COLUMNS)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (b"torch.from_file('/etc/passwd')", "from_file"),
        (b"torch.save(x, '/tmp/x')", "save"),
        (b"ops.prim.PythonOp(x)", "PythonOp"),
        (b"ops.mine.run(x)", "mine.run"),
        (b"torch.ops.aten.relu(x)", "ops.aten.relu"),
        (b"__torch__.torch.classes.mine.Runner(x)", "torch.classes"),
        (b"open('/etc/passwd')", "no 'open'"),
        (b"x.__class__.__base__", "what is no module"),
        (b"[y for y in x]", "computes what is not known"),
        (b"(lambda: x)()", "calls what is not known"),
    ],
)
def test_nothing_but_known_operators(new, reason):
    data = changed(saved(Mlp, "scripted"), b"torch.nan_to_num(x)", new)
    with pytest.raises(ModelError, match=reason):
        load_script(data, COLUMNS)


def test_a_script_that_changes_its_weights_is_refused():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return x.sum(1) + self.seen

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Counts().eval()), buffer)
    with pytest.raises(ModelError, match="changes"):
        load_script(buffer.getvalue(), COLUMNS)


def test_a_script_that_is_still_training_is_refused():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Mlp()), buffer)
    with pytest.raises(ModelError, match="eval"):
        load_script(buffer.getvalue(), COLUMNS)


def test_what_a_script_raises_is_told():
    with pytest.raises(ModelError, match="it has 1001 columns"):
        load_script(saved(Raises, "scripted"), COLUMNS).score(
            np.full((1, COLUMNS), 1001.0, np.float32)
        )


class Raises(nn.Module):
    def forward(self, x):
        if bool((x > 1000).any()):
            raise ValueError("it has {} columns".format(int(x.max())))  # noqa: UP032  a script's
        return x.sum(1)
