"""What the documents show is true: their Python runs, their links lead somewhere."""

import re
import types
from pathlib import Path

import pytest

import feilun as fl

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_definitions_in_the_readme_compile(name):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    module = types.ModuleType("readme")
    exec(compile(block, name, "exec"), vars(module))
    project = fl.compile(module)
    assert set(project.views) == {"user_profile"}
    assert set(project.events) == {"click"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
