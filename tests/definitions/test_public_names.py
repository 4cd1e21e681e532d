"""``import feilun as fl``."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import feilun as fl

HEAVY = {"numpy", "msgspec", "lmdb", "mlflow", "pandas", "sklearn", "lightgbm", "polars", "click"}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_importing_loads_next_to_nothing():
    assert {m for m in modules_after("import feilun") if m.startswith("feilun")} == {"feilun"}


def test_definitions_need_no_library():
    modules = modules_after("from feilun import *\nimport feilun\nfeilun.compile")
    assert "feilun.definitions.compiler" in modules
    assert not modules & HEAVY


def test_every_name_is_there_and_no_other():
    assert dir(fl) == sorted(fl.__all__)
    assert set(fl.__all__) == set(fl._HOMES)
    for name in fl.__all__:
        assert getattr(fl, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fl.nothing


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(fl.__file__).read_text(encoding="utf-8"))
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("feilun."):
            place = node.module.removeprefix("feilun.definitions.")
            seen |= {name.asname or name.name: f"{place}.{name.name}" for name in node.names}
    assert seen == fl._HOMES
