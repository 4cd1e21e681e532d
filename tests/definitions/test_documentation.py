"""``docs/definitions.md`` is true: its examples are one project that compiles."""

import re
from pathlib import Path

import pytest

import feilun as fl
from feilun.definitions.loading import load_project
from feilun.definitions.specs import Project

PAGE = Path(__file__).parents[2] / "docs" / "definitions.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(page, tmp_path_factory) -> Project:
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    file = tmp_path_factory.mktemp("docs") / "shop.py"
    file.write_text("\n".join(blocks), encoding="utf-8")
    return load_project(file)


def test_the_examples_compile(project):
    assert list(project.events) == ["order_line", "view", "stock"]
    assert list(project.models) == ["ranker", "demand", "loyalty"]
    assert list(project.capabilities) == ["recommend", "inventory", "picks"]
    assert list(project.flywheels) == ["ranker", "demand"]
    assert project.events["order_line"].subject == "user_id"


def test_every_public_name_is_explained(page):
    unexplained = {name for name in fl.__all__ if not re.search(rf"\b{name}\b", page)}
    assert unexplained == {"Expression", "Feature"}  # types that users meet without naming them
