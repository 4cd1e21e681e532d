"""Mistakes to be told of: one mistake, one problem, at its line, with a way out.

``# HERE`` marks the line that the problem must name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from feilun.definitions.loading import load_project
from feilun.errors import DefinitionError, Problem

PRELUDE = """\
import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)

class Order(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    price: fl.Field[float]
    color: fl.Field[str]
    guest_id: fl.Field[int | None]
    gift: fl.Field[bool]
    look: fl.Field[fl.Vector] = fl.Field(dim=2)

class Profile(fl.FeatureView, entity=user):
    orders = fl.count(Order, window="7d")
    color = fl.last(Order.color)
    recent = fl.last(Order.item_id, n=10)
    colors = fl.top(Order.color, n=3)
    look = fl.last(Order.look)

class Pair(fl.FeatureView, entity=(user, item)):
    orders = fl.count(Order)

label = fl.outcome(Order, within="30m")

@fl.model(features=[Profile, Pair], label=label, metric="auc")
def ranker(data): ...

"""


def problems_of(folder: Path, source: str) -> tuple[str, list[Problem]]:
    """Return the source and all its problems, file names without their folder."""
    file = folder / "shop.py"
    file.write_text(source, encoding="utf-8")
    with pytest.raises(DefinitionError) as caught:
        load_project(file)
    return source, [
        Problem(re.sub(r"^.*/", "", p.where), p.what, p.fix) for p in caught.value.problems
    ]


def view(feature: str) -> str:
    return f"class V(fl.FeatureView, entity=user):\n    f = {feature}  # HERE\n"


def model(**settings: str) -> str:
    given = {"features": "[Profile]", "label": "label", "metric": '"auc"'} | settings
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"@fl.model({arguments})  # HERE\ndef other(data): ...\n"


def capability(
    parameters: str = "scored: fl.Scored, user_id: int", path: str = '"/api/x"', **settings: str
) -> str:
    given = {"model": "ranker", "candidates": "[Profile.recent]"} | settings
    arguments = ", ".join([path, *(f"{name}={value}" for name, value in given.items())])
    return f"@fl.capability({arguments})  # HERE\ndef x({parameters}): ...\n"


def asked(parameters: str = "scored: fl.Scored, user_id: int", **settings: str) -> str:
    """Return a capability for another one to ask."""
    wanted = capability(parameters, '"/api/inner"', **settings)
    return wanted.replace("  # HERE", "").replace("def x", "def inner")


def aggregation(
    bases: str = "fl.Aggregation",
    columns: str = '{"n": "<i8"}',
    dtype: str = '"float"',
    lift: str = "staticmethod(print)",
) -> str:
    return f"""\
class Own({bases}):
    columns = {columns}
    dtype = {dtype}
    lift = {lift}
    reduce = finish = staticmethod(print)

class V(fl.FeatureView, entity=user):
    f = fl.custom(Own, Order.price)  # HERE
"""


def where(condition: str, event: str = "Order") -> str:
    return view(f"fl.count({event}, where={condition})")


def flywheel(model: str = "ranker", turn: str = "fl.after(9)", gate: str = "fl.better()") -> str:
    return f"loop = fl.Flywheel({model}, turn={turn}, gate={gate})  # HERE\n"


def cases(mistakes: Mapping[str, tuple[str, str, str]]) -> list[Any]:
    """Return mistakes as parameters of a test: what is written, what is said, the way out."""
    return [pytest.param(*case, id=name) for name, case in mistakes.items()]


def check(folder: Path, snippet: str, what: str, fix: str) -> None:
    """Check that a snippet is one problem, at its line, with its way out."""
    source, problems = problems_of(folder, PRELUDE + snippet)
    assert len(problems) == 1, problems
    (problem,) = problems
    assert re.search(what, problem.what), problem
    assert re.search(fix, problem.fix), problem
    marked = [n for n, line in enumerate(source.splitlines(), 1) if "# HERE" in line]
    if marked:
        assert problem.where.startswith(f"shop.py:{marked[0]} "), (problem.where, marked)
