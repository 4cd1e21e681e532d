"""What no line of Feilun may do, whatever a linter is told to overlook."""

import ast
from pathlib import Path

import pytest

import feilun

SOURCE = Path(feilun.__file__).parent

LOADS_CODE = {
    "pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "runpy",
    "pty",
}
"""Modules whose use is to run what somebody has written into a file."""
UNPACKS = {"tarfile", "gzip", "bz2", "lzma"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp",
    "yaml.load", "yaml.full_load", "yaml.unsafe_load", "shutil.unpack_archive",
    "ssl._create_unverified_context", "urllib.request.urlretrieve", "numpy.load", "np.load",
    "torch.load", "torch.export.load", "csv.writer", "csv.DictWriter",
}  # fmt: skip
METHODS = {"extractall", "extract", "write_csv", "to_csv", "import_module", "exec_module"}
"""Archives may write anywhere, a spreadsheet runs =formulas, and a name may be anybody's."""
ALLOWED = {
    # Names that are written there, and none that come from data.
    "__init__.py": ["import_module"],
    "compiled.py": ["importlib.import_module"],
    "adapters/files/table.py": ["importlib.import_module"],
    # The file of definitions, which feilun.toml names.
    "definitions/loading.py": ["spec.loader.exec_module"],
}


def name_of(node):
    """Return a dotted name as it is written."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def problems(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            roots = {name.partition(".")[0] for name in names}
            yield from roots & (LOADS_CODE | UNPACKS)
        elif isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in CALLS or name.rpartition(".")[2] in METHODS:
                yield name
            for word in node.keywords:
                said = word.value.value if isinstance(word.value, ast.Constant) else "?"
                if word.arg in ("shell", "allow_pickle") and said is not False:
                    yield f"{name}({word.arg}=)"


def found_in(text):
    return sorted(set(problems(ast.parse(text))))


def test_nothing_runs_unpacks_or_imports_what_it_reads():
    files = {str(path.relative_to(SOURCE)): path for path in SOURCE.rglob("*.py")}
    found = {name: found_in(path.read_text("utf-8")) for name, path in files.items()}
    assert len(found) > 200
    assert {name: problems for name, problems in found.items() if problems} == ALLOWED


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("import os; os.system(x)", "os.system"),
        ("yaml.load(x, Loader=l)", "yaml.load"),
        ("subprocess.run(x, shell=True)", "subprocess.run(shell=)"),
        ("np.frombuffer(x, allow_pickle=yes)", "np.frombuffer(allow_pickle=)"),
        ("zipfile.ZipFile(x).extractall()", ".extractall"),
        ("import_module(x)", "import_module"),
        ("frame.write_csv(x)", "frame.write_csv"),
        ("eval(x)", "eval"),
    ],
)
def test_it_would_be_found(text, found):
    assert found_in(text) == [found]
