"""The digest of a training function's code."""

import itertools
from pathlib import Path

import pytest

from feilun.definitions.code_digest import class_digest, code_digest
from feilun.definitions.loading import load_project

numbers = itertools.count()

SHOP = """\
import feilun as fl

class Order(fl.Event):
    user_id: fl.Field[int]

class Profile(fl.FeatureView, entity=fl.Entity("user_id", int)):
    orders = fl.count(Order)

label = fl.outcome(Order, within="30m")

@fl.model(features=[Profile], label=label, metric="auc")
def ranker(data):
    trees = 100
    return lambda: trees
"""


def digest_of(folder: Path, source: str) -> str:
    file = folder / f"shop_{next(numbers)}.py"
    file.write_text(source)
    return load_project(file).models["ranker"].code_digest


@pytest.mark.parametrize(
    ("before", "after"),
    [("100", "200"), ("trees = ", "leaves = trees = "), ("(data)", "(data, seed=7)")],
)
def test_other_code_has_another_digest(tmp_path, before, after):
    assert digest_of(tmp_path, SHOP) != digest_of(tmp_path, SHOP.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("trees = 100", "trees = (100)  # enough"),
        ("    trees", "\n    trees"),
        ('"auc"', '"precision@10"'),
        ("import feilun as fl", "import feilun as fl\nprint"),
    ],
)
def test_layout_comments_and_decorators_do_not_count(tmp_path, before, after):
    assert digest_of(tmp_path, SHOP) == digest_of(tmp_path, SHOP.replace(before, after, 1))


def test_without_a_source_the_bytecode_counts():
    functions = {}
    for name, code in [("a", "100"), ("same", "100"), ("other", "200"), ("inner", "(lambda: 1)")]:
        exec(f"def f(data):\n    return {code}", namespace := {})
        functions[name] = namespace["f"]
    digests = {name: code_digest(function) for name, function in functions.items()}
    assert digests["a"] == digests["same"]
    assert len(set(digests.values())) == 3
    assert all(len(digest) == 16 for digest in digests.values())


AGGREGATION = """\
import feilun as fl

class Own(fl.Aggregation):
    \"\"\"Says something.\"\"\"

    columns = {"n": "<i8"}
    dtype = "int"

    @staticmethod
    def lift(rows, time, values):
        rows["n"][:] = 1

    def other(self): ...
"""


def class_of(folder: Path, source: str) -> str:
    file = folder / f"own_{next(numbers)}.py"
    file.write_text(source)
    space = {"__name__": file.stem}
    exec(compile(source, str(file), "exec"), space)
    return class_digest(space["Own"])


@pytest.mark.parametrize(
    ("before", "after"),
    [("[:] = 1", "[:] = 2"), ("<i8", "<f8"), ('dtype = "int"', 'dtype = "float"')],
)
def test_a_class_is_its_methods_and_constants(tmp_path, before, after):
    changed = AGGREGATION.replace(before, after)
    assert class_of(tmp_path, changed) != class_of(tmp_path, AGGREGATION)


def test_a_class_is_not_its_comments(tmp_path):
    changed = AGGREGATION.replace("something", "else").replace(" = 1", " = (1)  # once")
    assert class_of(tmp_path, changed) == class_of(tmp_path, AGGREGATION)
