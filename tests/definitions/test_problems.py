"""What is said about several mistakes at once, and about none."""

import sys
from pathlib import Path

import pytest

from feilun.definitions.loading import load_project
from feilun.errors import DefinitionError

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import PRELUDE, capability, flywheel, model, problems_of, view

SUM_OF_TEXT = view("fl.sum(Order.color)")


def test_the_prelude_alone_is_right(tmp_path):
    (tmp_path / "shop.py").write_text(PRELUDE)
    assert load_project(tmp_path / "shop.py").name == "shop"


def test_all_problems_come_at_once(tmp_path):
    wrong = [
        SUM_OF_TEXT,
        view('fl.count(Order, window="7d", hop="5m")').replace("class V", "class W"),
        model(metric='"accuracy"'),
        capability("scored: fl.Scored, usr_id: int"),
        flywheel(turn="fl.after(0)"),
        's = fl.Settings(timezone="Asia/Shanghia")',
    ]
    _, problems = problems_of(tmp_path, PRELUDE + "\n".join(wrong))
    assert len(problems) == len(wrong)


def test_what_depends_on_a_mistake_is_not_blamed(tmp_path):
    source = PRELUDE.replace("fl.Field[float]", "fl.Field[bytes]")
    _, problems = problems_of(tmp_path, source + capability() + flywheel())
    assert [problem.where for problem in problems] == ["shop.py:5 Order.price"]


def test_the_error_says_it_all(tmp_path):
    (tmp_path / "shop.py").write_text(PRELUDE + SUM_OF_TEXT)
    with pytest.raises(DefinitionError) as caught:
        load_project(tmp_path / "shop.py")
    assert str(caught.value).endswith(
        "shop.py:30 V.f: sum() takes a number, and Order.color is str. "
        "Choose another field, or fl.first, fl.last, fl.top, which take any type."
    )
