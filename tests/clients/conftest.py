"""A project with everything that a client may meet, and its description."""

from pathlib import Path

import pytest

from feilun.definitions.loading import load_project
from feilun.serving.description.openapi import describe

SHOP = '''
from dataclasses import dataclass
import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)
city = fl.Entity("city", str)

class Click(fl.Event):
    """Somebody looked at a product."""
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    time: fl.Field[float | None]
    taste: fl.Field[fl.Vector | None] = fl.Field(dim=2, default=None)

class Visit(fl.Event):
    city: fl.Field[str]
    again: fl.Field[bool]

class UserProfile(fl.FeatureView, entity=user):
    """How a customer shops."""
    clicks = fl.count(Click)
    recent = fl.last(Click.item_id, n=5)
    mean_time = fl.mean(Click.time)
    double = clicks + clicks

class UserItem(fl.FeatureView, entity=(user, item)):
    clicks = fl.count(Click)

class Places(fl.FeatureView, entity=city):
    visits = fl.count(Visit)

class Trends(fl.FeatureView):
    popular = fl.top(Click.item_id, n=10)

@fl.model(features=[UserItem.clicks], label=fl.outcome(Click, within="1h"), metric="auc")
def ranker(data): ...

@dataclass
class Tip:
    """One product."""
    item_id: int
    why: str | None
    next: "Tip | None" = None

@fl.capability("/api/recommend", model=ranker, candidates=[Trends.popular], fallback=Trends.popular)
def recommend(
    scored: fl.Scored, user_id: int, k: int = 3, tags: list[str] = [], fresh: bool = False
) -> list[int]:
    """Products for a customer, best first."""
    return scored.top(k)

@fl.capability("/api/tips", model=ranker, candidates=[Trends.popular], fallback=Trends.popular)
def tips(scored: fl.Scored, user_id: int) -> list[Tip]:
    return [Tip(item_id=item, why=None) for item in scored.top(2)]
'''


@pytest.fixture(scope="session")
def described(tmp_path_factory):
    """Return the description of a project that is given as source."""

    def make(source, name="shop", clock="wall"):
        path = tmp_path_factory.mktemp("project") / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        return describe(load_project(path), "1", clock)

    return make


@pytest.fixture(scope="session")
def source():
    return SHOP


@pytest.fixture(scope="session")
def description(described):
    return described(SHOP)


@pytest.fixture(scope="session")
def again(described):
    """The description of the same project, from another file."""
    return described(SHOP)


@pytest.fixture(scope="session")
def hostile(described):
    return described((Path(__file__).parent / "hostile_shop.py").read_text("utf-8"))
