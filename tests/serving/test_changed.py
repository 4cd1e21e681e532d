"""The definitions are not what the version in production was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feilun.clock import DAY
from feilun.definitions.specs import ConditionSpec, ParameterSpec
from feilun.features import engine as engine_module
from feilun.features.engine import Engine
from feilun.models.bundle import columns_of, folds_of
from feilun.records.record import RECOMPUTE


class Then:
    """Features of the shop as they are, and as they once were."""

    def __init__(self, project):
        self.orders = project.feature("user_profile:orders")
        self.heat = project.feature("item_profile:heat")
        self.bought = project.feature("user_item:bought")
        self.gone = replace(project.feature("user_profile:last_place"), name="gone")
        self.once_orders = replace(self.filtered(ConditionSpec(">", "place", 30)), window=60 * DAY)
        self.once_heat = replace(self.heat, window=DAY)

    def filtered(self, condition):
        return replace(self.orders, fold=replace(self.orders.fold, where=condition))


@pytest.fixture
def then(shop):
    return Then(shop.project)


class Named:
    """A feature as a function names it."""

    def __init__(self, address):
        self.address = address


def seen(scored, user_id, k=10):
    wanted = ("user_profile:orders", "item_profile:heat")
    return [scored[Named(address)].tolist() for address in wanted]


@pytest.fixture
def make(shop, shop_of):
    """Make a shop whose version in production was trained on other columns than it has today."""

    def made(*columns, **capability):
        changes = {"function": seen, "returns": list, **capability}
        recommend = replace(shop.project.capabilities["recommend"], **changes)
        found = shop_of(replace(shop.project, capabilities={"recommend": recommend}))
        model = replace(found.project.models["ranker"], columns=columns)
        folds = folds_of(model)
        fold(found, lambda: folds)
        found.train((1,) * len(columns), columns=columns_of(model, {}), folds=folds)
        return found, model

    return made


def fold(shop, pinned):
    shop.engine = Engine(shop.project, shop.history, shop.store, pinned=pinned)
    while shop.engine.run_once():
        pass


def matrix(prediction, width):
    return np.frombuffer(prediction.vectors, np.float32).reshape(-1, width)


def test_the_matrix_is_as_it_was_and_the_function_sees_what_is_now(make, then):
    shop, model = make(then.once_orders, then.once_heat, then.bought, then.gone)
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert (reply.json["version"], reply.json["degraded"]) == (1, [])
    (logged,) = shop.predictions()
    assert logged.columns == model.columns_digest
    orders, heat = reply.json["result"]
    assert set(orders) == {15}  # all of the last 30 days
    assert sorted(heat) == [2, 4, 6, 8, 10]  # of both customers
    vectors = matrix(logged, 4)
    assert set(vectors[:, 0]) == {9.0}  # of more than 30
    assert set(vectors[:, 3]) == {10.0}


def test_one_row_alone_is_read_as_it_was_too(make, then):
    one = (
        ParameterSpec("user_id", int, True, None),
        ParameterSpec("item_id", int, True, None),
    )
    shop, model = make(
        then.once_orders, then.bought, parameters=one, candidates=(), fallback=then.heat,
        function=lambda scored, user_id, item_id: seen(scored, user_id),
    )  # fmt: skip
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1, "item_id": 4}))
    assert reply.json["result"] == [[15], [8]]
    (logged,) = shop.predictions()
    assert matrix(logged, 2).tolist() == [[9.0, 4.0]]
    assert logged.columns == model.columns_digest


def test_what_is_not_built_is_missing_and_computed_again_later(make, then):
    shop, _ = make(then.once_orders, then.bought)
    fold(shop, tuple)
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1}))
    assert reply.json["version"] == 1
    assert reply.json["degraded"] == ["missing:user_profile:orders"]
    (logged,) = shop.predictions()
    assert logged.columns == RECOMPUTE
    assert set(reply.json["result"][0]) == {15}  # the function's own is there


def refusal(shop, column, then):
    model = replace(shop.project.models["ranker"], columns=(column, then.heat))
    shop.train((1, 1), columns=columns_of(model, {}), folds=folds_of(model))
    status = shop.run(shop.client.get("/status"))
    return status.json["models"]["ranker"]["refused"]["reason"]


def test_what_it_was_made_of_is_gone(shop, then):
    visits = replace(then.orders, fold=replace(then.orders.fold, event="visit"))
    assert "the event visit is gone" in refusal(shop, visits, then)
    colored = then.filtered(ConditionSpec("==", "color", 1))
    assert "the field order.color is gone" in refusal(shop, colored, then)


def test_a_request_that_does_not_name_its_entity_any_more(shop, shop_of, then):
    recommend = replace(
        shop.project.capabilities["recommend"],
        parameters=(ParameterSpec("item_id", list[int], True, None),),
        candidates=(),
        fallback=then.heat,
        reads=(),
    )
    changed = shop_of(replace(shop.project, capabilities={"recommend": recommend}))
    says = "user_profile:orders of a user_id, which /api/recommend does not name"
    assert says in refusal(changed, then.once_orders, then)


def redefined(project, *features, **capability):
    """Return a project in which features mean something else."""
    new = {feature.address: feature for feature in features}
    views = {
        name: replace(view, features=tuple(new.get(f.address, f) for f in view.features))
        for name, view in project.views.items()
    }
    changes = {"function": listed, "returns": dict, **capability}
    recommend = replace(project.capabilities["recommend"], **changes)
    return replace(project, views=views, capabilities={"recommend": recommend})


def listed(scored, user_id, k=10):
    heat = scored[Named("item_profile:heat")].tolist()
    return {"items": list(scored.items), "heat": heat}


@pytest.fixture
def between(shop, shop_of, monkeypatch):
    """Make a shop at some step of the way from the definitions before to its own."""
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 7)

    def made(project, steps):
        found = shop_of(project)
        found.store.clear()
        before = Engine(shop.project, found.history, found.store)
        while before.run_once():
            pass
        engine = Engine(project, found.history, found.store)
        done = 0 if steps == 0 else sum(bool(engine.run_once(7)) for _ in range(steps))
        found.train((1,) * len(project.models["ranker"].columns))
        return found, done

    return made


def ask(shop, **options):
    reply = shop.run(shop.client.get("/api/recommend", {"user_id": 1, **options}))
    return reply.json["result"], reply.json["degraded"]


@pytest.mark.parametrize("steps", [0, 1, 3, 20])
def test_lists_and_what_the_function_reads_go_on_as_before_until_they_are_built(
    shop, between, steps
):
    recent = shop.project.feature("user_profile:recent_items")
    last_two = replace(recent, fold=replace(recent.fold, n=2), n=2)
    of_one = only_of_one(shop)
    project = redefined(shop.project, last_two, of_one, candidates=(last_two,), reads=(of_one,))
    model = replace(project.models["ranker"], columns=(project.feature("user_profile:orders"),))
    changed, done = between(replace(project, models={"ranker": model}), steps)
    result, degraded = ask(changed)
    if done < steps:
        assert (result, degraded) == ({"items": [1, 2], "heat": [1, 2]}, [])
    else:
        assert degraded == ["changed:user_profile:recent_items", "changed:item_profile:heat"]
        assert sorted(result["items"]) == [1, 2, 3, 4, 5]
        assert result["heat"] == [2 * item for item in result["items"]]
    (logged,) = changed.predictions()
    assert logged.columns == model.columns_digest  # the matrix has nothing of what is built


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_a_model_that_reads_it_too_never_takes_the_meaning_before(shop, between, steps):
    of_one = only_of_one(shop)
    project = redefined(shop.project, of_one, reads=(of_one,))
    bought = project.feature("user_item:bought")
    model = replace(project.models["ranker"], columns=(of_one, bought))
    changed, done = between(replace(project, models={"ranker": model}), steps)
    result, degraded = ask(changed)
    (logged,) = changed.predictions()
    heat = matrix(logged, 2)[:, 0]
    if done < steps:
        assert (result["heat"], degraded) == (result["items"], [])
        assert heat.tolist() == result["items"]
        assert logged.columns == model.columns_digest
    else:
        assert degraded == ["missing:item_profile:heat", "changed:item_profile:heat"]
        assert result["heat"] == [2 * item for item in result["items"]]
        assert np.isnan(heat).all()
        assert logged.columns == RECOMPUTE


def test_who_asks_for_no_personalisation_hears_of_nothing_that_was_not_read(shop, between):
    recent = shop.project.feature("user_profile:recent_items")
    last_two = replace(recent, fold=replace(recent.fold, n=2), n=2)
    popular = shop.project.feature("trends:popular")
    project = redefined(shop.project, last_two, candidates=(last_two, popular))
    changed, _ = between(project, 0)
    assert ask(changed, personalised="false")[1] == ["not_personalised"]


def only_of_one(shop):
    """The heat of items, by one of the two customers alone."""
    heat = shop.project.feature("item_profile:heat")
    return replace(heat, fold=replace(heat.fold, where=ConditionSpec("<", "user_id", 2)))
