"""Loading a file of definitions."""

import sys
from pathlib import Path

import pytest

from feilun.definitions.loading import load_project
from feilun.errors import DefinitionError, Problem

ENTITY = 'import feilun as fl\nuser = fl.Entity("user_id", int)\n'


def problem_of(file: Path) -> Problem:
    with pytest.raises(DefinitionError) as caught:
        load_project(file)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.py"


@pytest.fixture(autouse=True)
def same_interpreter_after(request):
    """Put modules and paths back, whatever a test loads."""
    modules, paths = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_the_project_is_named_after_its_file(file):
    file.write_text(ENTITY)
    project = load_project(file)
    assert project.name == "shop"
    assert list(project.entities) == ["user_id"]


def test_its_folder_can_be_imported_from_and_replaces_nothing(file):
    (file.parent / "entities_of_the_shop.py").write_text(ENTITY)
    (file.parent / "json.py").write_text("raise RuntimeError")
    file.write_text("import json\nfrom entities_of_the_shop import user\n")
    sys.modules.pop("json", None)
    assert list(load_project(file).entities) == ["user_id"]


def test_a_file_is_run_anew_each_time(file):
    file.write_text(ENTITY)
    one = load_project(file)
    file.write_text(ENTITY.replace("user_id", "customer_id"))
    two = load_project(file)
    assert (list(one.entities), list(two.entities)) == (["user_id"], ["customer_id"])


def test_files_of_one_name_do_not_meet(tmp_path):
    for place in ("north", "south"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "shop.py").write_text(ENTITY.replace("user_id", f"{place}_id"))
    projects = [load_project(tmp_path / place / "shop.py") for place in ("north", "south")]
    assert [list(project.entities) for project in projects] == [["north_id"], ["south_id"]]


def test_annotations_as_strings_are_understood(file):
    file.write_text(
        "from __future__ import annotations\n" + ENTITY + "class Click(fl.Event):\n"
        "    user_id: fl.Field[int]\n    page: fl.Field[str | None]\n"
    )
    fields = load_project(file).events["click"].fields
    assert [(f.name, f.dtype, f.optional) for f in fields] == [
        ("user_id", "int", False),
        ("page", "str", True),
    ]


@pytest.mark.parametrize(
    ("source", "line", "what", "fix"),
    [
        ("x = 1\nclass\n", 2, "invalid syntax", "syntax"),
        ("x = (\n", 1, "'(' was never closed", "syntax"),
        ("x = 1\n\ny = 1 / 0\n", 3, "ZeroDivisionError: division by zero", "Mend"),
        ("def f():\n    raise ValueError('no.')\nf()\n", 2, "ValueError: no", "Mend"),
        ("raise SystemExit(3)\n", 1, "SystemExit: 3", "Mend"),
        ("import nowhere_at_all\n", 1, "No module named 'nowhere_at_all'", "Install"),
        ("import feilun as fl\nfl.cuont\n", 2, "no attribute 'cuont'", "'count'"),
        (
            "import feilun as fl\nclass Click(fl.Event):\n    page: fl.Field[str]\n"
            "class Trends(fl.FeatureView):\n    pages = fl.top(Click.paeg)\n",
            5,
            "no attribute 'paeg'",
            "Did you mean 'page'?",
        ),
        ("import feilun as fl\nfl.Settings(zone='UTC')\n", 2, "argument 'zone'", "Mend"),
    ],
)
def test_a_file_that_does_not_run(file, source, line, what, fix):
    file.write_text(source)
    problem = problem_of(file)
    assert problem.where == f"{file}:{line}"
    assert what in problem.what
    assert fix in problem.fix


def test_an_error_in_an_imported_file_is_placed_there(file):
    (file.parent / "part_of_the_shop.py").write_text("\n\nx = [][1]\n")
    file.write_text("import part_of_the_shop\n")
    assert problem_of(file).where == f"{file.parent / 'part_of_the_shop.py'}:3"


def test_no_such_file(file):
    assert "no such file" in problem_of(file).what


def test_not_a_python_file(file):
    other = file.with_suffix(".toml")
    other.write_text("")
    assert "not a Python file" in problem_of(other).what


def test_bytes_that_are_no_text(file):
    file.write_bytes(b"x = '\xff'\n")
    assert "utf-8" in problem_of(file).what


@pytest.mark.parametrize("source", ["1 / 0", 'import feilun as fl\ne = fl.Entity("E", int)'])
def test_a_failure_leaves_nothing_behind(file, source):
    (file.parent / "helper_of_the_shop.py").write_text("")
    file.write_text("import helper_of_the_shop\n" + source)
    modules, paths = dict(sys.modules), list(sys.path)
    problem_of(file)
    assert {name for name in sys.modules if "shop" in name} == {
        name for name in modules if "shop" in name
    }
    assert sys.path == paths


def test_interrupting_is_not_an_error_of_the_file(file):
    file.write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_project(file)
