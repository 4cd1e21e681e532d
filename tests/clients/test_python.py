"""The generated Python client: typed, the same every time, and inert whatever it is made of."""

import ast
import importlib.util
import subprocess
import sys

import pytest

from feilun.clients.python import render_python
from feilun.clients.surface import read_surface


def render(description, folder):
    ((name, text),) = render_python(read_surface(description)).items()
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_types(path):
    """Return what mypy says; it runs where nothing shadows the standard library."""
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", path.name],
        cwd=path.parent, capture_output=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    return result.returncode, result.stdout


def test_mypy_has_nothing_to_say(description, hostile, tmp_path):
    for name, each in (("plain", description), ("hostile", hostile)):
        (tmp_path / name).mkdir()
        path = render(each, tmp_path / name)
        assert check_types(path) == (0, "Success: no issues found in 1 source file\n")


def test_mypy_rejects_a_wrong_call(description, tmp_path):
    render(description, tmp_path)
    lines = [
        "from shop_client import Client",
        "client = Client('http://localhost')",
        "items: list[int] = client.recommend(user_id=7, k=3)['result']",
        "client.recommend(user_id='7')  # wrong",
        "client.recommend()  # wrong",
        "client.recommend(user_id=7)['results']  # wrong",
        "client.track_visit({'city': 'X', 'again': True})",
        "client.track_visit({'city': 7, 'again': True})  # wrong",
        "why: str = client.tips(user_id=7)['result'][0]['why']  # wrong: it may be None",
        "answers = client.recommend_batch([{'user_id': 7}, {'user_id': 8, 'k': 3}], min_offset=9)",
        "items = answers[0]['reply']['result'] if answers[0]['status'] == 200 else []",
        "said: str = answers[1]['error']['hint']",
        "client.recommend_batch([{'k': 3}])  # wrong",
        "client.recommend_batch({'user_id': 7})  # wrong",
        "hint: int = answers[1]['error']['hint']  # wrong",
    ]
    caller = tmp_path / "caller.py"
    caller.write_text("\n".join(lines))
    code, said = check_types(caller)
    found = {int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line}
    assert code == 1
    assert found == {number for number, line in enumerate(lines, 1) if "# wrong" in line}


def test_the_same_definitions_give_the_same_bytes(again, description):
    assert render_python(read_surface(again)) == render_python(read_surface(description))


def test_nothing_of_the_definitions_runs(hostile, tmp_path):
    path = render(hostile, tmp_path)
    tree = ast.parse(path.read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "boom" not in names
    assert "\x1b" not in path.read_text("utf-8")
    module = load(path)
    assert set(module.Odd.__annotations__) == {
        "class", "a-b", "int", "__x", "*/", '"]; boom(); //',
    }  # fmt: skip
    assert "boom()" in module.Client.track_click_.__doc__


def test_names_that_python_has_already_get_another(hostile, tmp_path):
    client = load(render(hostile, tmp_path)).Client
    assert {"list_", "import_", "constructor", "track_click", "track_click_"} <= set(dir(client))
    assert {"list_batch", "constructor_batch", "track_click_batch"} <= set(dir(client))


@pytest.mark.parametrize("url", ["localhost:8600", "ftp://x", "http://", "http://u:secret@x"])
def test_what_is_no_address_is_refused(description, tmp_path, url):
    client = load(render(description, tmp_path)).Client
    with pytest.raises(ValueError, match="address") as caught:
        client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"city": "X"}, "lacks again"),
        ({}, "lacks city, again"),
        ({"city": "X", "again": True, "town": "Y"}, "has no town"),
    ],
)
def test_an_event_that_would_be_refused_is_refused_at_the_call(description, tmp_path, fields, said):
    client = load(render(description, tmp_path)).Client("http://127.0.0.1:9")
    with pytest.raises(ValueError, match=said):
        client.track_visit(fields)
    client.close()  # nothing waits to be sent
