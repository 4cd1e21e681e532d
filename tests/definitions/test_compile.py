"""What a module compiles to."""

import copy
import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import feilun as fl
from feilun.clock import DAY, HOUR, MINUTE
from feilun.definitions.specs import (
    ConditionSpec,
    EntitySpec,
    ExpressionSpec,
    FieldSpec,
    GateSpec,
    OutcomeSpec,
    ParameterSpec,
    Project,
    RequestSpec,
    TriggerSpec,
)
from feilun.errors import DefinitionError

SHOP = Path(__file__).with_name("shop.py")
USER = EntitySpec("user_id", "int", "A customer.")
ITEM = EntitySpec("item_id", "int")


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SHOP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return imported("shop")


@pytest.fixture(scope="module")
def project(module: ModuleType) -> Project:
    return fl.compile(module)


def test_everything_is_found_once_and_in_order(project):
    assert project.name == "shop"
    assert project.timezone == "Asia/Shanghai"
    assert list(project.entities) == ["user_id", "item_id"]
    assert list(project.events) == ["order", "stock"]
    assert list(project.views) == ["user_profile", "item_profile", "user_item", "trends"]
    assert list(project.models) == ["ranker", "demand"]
    assert list(project.capabilities) == ["recommend", "inventory"]
    assert list(project.flywheels) == ["ranker", "demand"]


def test_events(project):
    order, stock = project.events["order"], project.events["stock"]
    assert order.version == 2
    assert order.fields == (
        FieldSpec("user_id", "int"),
        FieldSpec("item_id", "int"),
        FieldSpec("price", "float"),
        FieldSpec("category", "str"),
        FieldSpec("again", "bool"),
        FieldSpec("coupon", "str", optional=True),
        FieldSpec("points", "int", optional=True),
        FieldSpec("look", "vector", optional=True, dim=2),
        FieldSpec("campaign", "str", optional=True),
    )
    assert [field.name for field in order.fields if field.deprecated] == ["campaign"]
    assert (order.subject, stock.subject) == ("user_id", "item_id")
    assert (order.owner, stock.owner) == ("orders", "shop")
    assert order.description == "One product in one order."
    assert stock.description == "How much is on the shelf."


def test_views(project):
    user, pair, trends = (project.views[v] for v in ("user_profile", "user_item", "trends"))
    assert (user.entities, pair.entities, trends.entities) == ((USER,), (USER, ITEM), ())
    assert (user.owner, pair.owner) == ("growth", "shop")
    assert user.description == "How a customer shops."
    assert pair.features[0].fold.keys == (USER, ITEM)


@pytest.mark.parametrize(
    ("feature", "kind", "dtype", "window", "calendar", "hop"),
    [
        ("orders", "count", "int", None, 0, 0),
        ("orders_7d", "count", "int", 7 * DAY, 0, HOUR),
        ("orders_30d", "count", "int", 30 * DAY, 0, DAY),
        ("orders_today", "count", "int", DAY, 1, DAY),
        ("spent_1h", "sum", "float", HOUR, 0, MINUTE),
        ("points", "sum", "int", 7 * DAY, 7, DAY),
        ("bought_again", "mean", "float", None, 0, 0),
        ("cheapest", "min", "float", None, 0, 0),
        ("first_coupon", "first", "str", None, 0, 0),
        ("category", "top", "str", 30 * DAY, 0, DAY),
        ("since_order", "since_last", "float", None, 0, 0),
        ("fondness", "decayed", "float", None, 0, 0),
        ("faded_spent", "decayed", "float", None, 0, 0),
        ("spread", "std", "float", 30 * DAY, 0, DAY),
        ("median", "quantile", "float", 30 * DAY, 0, DAY),
        ("different", "distinct", "int", 30 * DAY, 0, DAY),
        ("taste", "mean", "vector", 30 * DAY, 0, DAY),
        ("extent", "custom", "float", 30 * DAY, 0, DAY),
    ],
)
def test_features(project, feature, kind, dtype, window, calendar, hop):
    spec = project.feature(f"user_profile:{feature}")
    assert (spec.fold.kind, spec.dtype, spec.is_list) == (kind, dtype, False)
    assert (spec.window, spec.calendar, spec.fold.hop) == (window, calendar, hop)
    assert spec.fold.retention == window
    assert spec.fold.timezone == "Asia/Shanghai"


def test_what_a_feature_is_read_with(project):
    recent, categories, stock, fondness = (
        project.feature(address)
        for address in (
            "user_profile:recent_items",
            "user_profile:categories",
            "item_profile:stock",
            "user_profile:fondness",
        )
    )
    assert (recent.is_list, recent.n, recent.fold.n, recent.dtype) == (True, 50, 50, "int")
    # Tiles of top hold every value, so features with other n share them.
    assert (categories.is_list, categories.n, categories.fold.n) == (True, 3, 1)
    assert (stock.ttl, stock.default, stock.fold.event) == (DAY, 1, "stock")
    assert (fondness.fold.half_life, fondness.fold.field) == (30 * DAY, None)
    assert project.feature("user_profile:orders_7d").description == "Order lines of seven days."
    assert project.feature("user_profile:points").fold.dtype == "int"
    assert project.feature("user_profile:bought_again").fold.dtype == "bool"


def test_features_of_one_fold_share_its_tiles(project):
    category = project.feature("user_profile:category").fold
    assert category.fingerprint == project.feature("user_profile:categories").fold.fingerprint
    fingerprints = [fold.fingerprint for fold in project.folds]
    assert len(set(fingerprints)) == len(fingerprints)
    assert fingerprints.count(category.fingerprint) == 1


def test_conditions(project):
    assert project.feature("user_profile:teas").fold.where == ConditionSpec(
        "and",
        parts=(
            ConditionSpec(">", "price", 3.0),
            ConditionSpec("in", "category", ("green tea", "tea")),
            ConditionSpec("not", parts=(ConditionSpec("in", "again", (True,)),)),
        ),
    )
    assert project.feature("user_profile:faded_spent").fold.where == ConditionSpec(
        "==", "again", True
    )
    assert project.feature("user_profile:orders").fold.where is None


def test_the_same_condition_has_the_same_tiles(module):
    order = module.Order

    class View(fl.FeatureView, entity=module.user):
        a = fl.count(order, where=((order.price > 3) & (order.points < 9)) & (order.points != 1))
        b = fl.count(order, where=(order.price > 3.0) & ((order.points < 9) & (order.points != 1)))
        c = fl.count(order, where=order.category.is_in(["b", "a", "a"]))
        d = fl.count(order, where=order.category.is_in(("a", "b")))
        e = fl.count(order)

    part = ModuleType("part")
    part.View = View
    folds = [feature.fold for feature in fl.compile(part).views["view"].features]
    assert folds[0].fingerprint == folds[1].fingerprint
    assert folds[2].fingerprint == folds[3].fingerprint
    assert len({fold.fingerprint for fold in folds}) == 3


def test_quantiles_of_one_field_share_tiles(project):
    median, dear = (
        project.feature(f"user_profile:{name}") for name in ("median", "nearly_dearest")
    )
    assert median.fold.fingerprint == dear.fold.fingerprint
    assert (median.quantile, dear.quantile) == (0.5, 0.9)


def test_vectors(project):
    taste, look = project.feature("user_profile:taste"), project.feature("item_profile:look")
    assert (taste.dtype, taste.fold.dtype, taste.fold.dim, taste.width) == (
        "vector", "vector", 2, 2,
    )  # fmt: skip
    assert (look.dtype, look.fold.kind, look.width) == ("vector", "last", 2)


def test_custom_aggregations(module, project):
    custom = project.feature("user_profile:extent").fold.custom
    assert (custom.name, custom.implementation) == ("Extent", module.Extent)
    assert project.feature("user_profile:extent").default == 0.0
    other = fl.compile(imported("shop")).feature("user_profile:extent").fold.custom
    assert other.code_digest == custom.code_digest


def test_arithmetic_of_a_view_is_a_feature_of_it(project):
    view = project.views["user_profile"]
    a_day, growth = view.expressions
    assert (a_day.address, growth.address) == ("user_profile:a_day", "user_profile:growth")
    orders = project.feature("user_profile:orders_30d")
    assert a_day == ExpressionSpec("/", orders, 30.0, "user_profile", "a_day")
    assert growth.formula == ("(user_profile:orders_7d / ((user_profile:orders_30d / 30.0) * 7.0))")
    assert [f.address for f in growth.inputs] == [
        "user_profile:orders_7d",
        "user_profile:orders_30d",
    ]
    assert growth.keys == (USER,)
    assert project.feature("user_profile:growth") is growth
    assert view.readable == (*view.features, a_day, growth)


def test_what_the_request_says(project):
    ranker = project.models["ranker"]
    assert ranker.request == (
        RequestSpec("hour", "int", "Asia/Shanghai"),
        RequestSpec("device", "str"),
        RequestSpec("weekday", "int", "Asia/Shanghai"),
    )
    assert [said.is_moment for said in ranker.request] == [True, False, True]
    assert "request:hour" not in [feature.address for feature in ranker.features]
    assert ranker.width == len(ranker.columns) + 1  # taste has two


def test_a_formula_is_part_of_the_meaning_of_a_column(project):
    ranker = project.models["ranker"]
    place = [column.address for column in ranker.columns].index("user_profile:growth")
    columns = list(ranker.columns)
    columns[place] = dataclasses.replace(columns[place], op="*")
    other = dataclasses.replace(ranker, columns=tuple(columns))
    assert [c.address for c in other.columns] == [c.address for c in ranker.columns]
    assert other.columns_digest != ranker.columns_digest


def test_a_whole_view_gives_a_model_its_scalars(project):
    ranker = project.models["ranker"]
    addresses = [column.address for column in ranker.columns]
    assert "user_profile:orders" in addresses
    assert "user_profile:recent_items" not in addresses
    assert addresses[-5:] == [
        "cosine(user_profile:taste, item_profile:look)",
        "same(user_profile:category, request:device)",
        "user_item:orders",
        "(user_item:orders / user_profile:orders)",
        "(user_profile:dearest - (user_profile:cheapest * 2.0))",
    ]
    assert isinstance(ranker.columns[-1], ExpressionSpec)
    assert ranker.keys == (USER, ITEM)
    assert ranker.label == OutcomeSpec("order", 30 * MINUTE, "happened")
    assert ranker.metric == "precision@10"
    assert (ranker.owner, ranker.description) == ("ml", "Will the customer buy it?")
    assert project.models["demand"].label == OutcomeSpec("order", DAY, "count")


def test_capabilities(project):
    recommend, inventory = project.capabilities["recommend"], project.capabilities["inventory"]
    assert recommend.item == inventory.item == "item_id"
    assert [f.address for f in recommend.candidates] == [
        "user_profile:recent_items",
        "trends:popular",
    ]
    assert recommend.fallback == project.feature("trends:popular")
    assert recommend.reads == (
        project.feature("item_profile:stock"),
        project.feature("item_profile:sold_a_day"),
        RequestSpec("weekday", "int", "Asia/Shanghai"),
    )
    assert inventory.fallback == project.feature("item_profile:sold_a_day")
    assert recommend.parameters == (
        ParameterSpec("user_id", int, required=True, default=None),
        ParameterSpec("k", int, required=False, default=10),
        ParameterSpec("device", str, required=False, default="web"),
    )
    assert (recommend.returns, inventory.returns) == (list[int], list[float])
    assert inventory.parameters == (ParameterSpec("item_id", list[int], True, None),)
    assert (recommend.description, recommend.owner) == ("Products for a customer.", "shop")


def test_flywheels(project):
    assert project.flywheels["ranker"].triggers == (
        TriggerSpec(1000, None),
        TriggerSpec(5000, "order"),
    )
    assert project.flywheels["ranker"].gate == GateSpec(0.9, 0.0)
    assert project.flywheels["demand"].gate == GateSpec(0.95, 0.05)


def test_the_same_definitions_give_an_equal_project(module, project):
    for other in (fl.compile(module), fl.compile(imported("shop"))):
        assert other == project
        for name, model in project.models.items():
            assert other.models[name].definition_digest == model.definition_digest
            assert other.models[name].code_digest == model.code_digest
        assert [f.fingerprint for f in other.folds] == [f.fingerprint for f in project.folds]
        assert other.events["order"].schema_id == project.events["order"].schema_id


def test_importing_registers_nothing(module, project):
    before = dict(sys.modules), copy.copy(vars(module))
    fl.compile(module)
    assert (dict(sys.modules), vars(module)) == before


def test_a_project_is_frozen(project):
    with pytest.raises(TypeError):
        project.views["more"] = project.views["trends"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        project.timezone = "UTC"


def test_no_reference_to_the_users_classes(module, project):
    classes = (module.Order, module.UserProfile, module.user, module.ranker)
    seen: list[object] = [project]
    for value in seen:
        if dataclasses.is_dataclass(value):
            seen += [getattr(value, field.name) for field in dataclasses.fields(value)]
        elif hasattr(value, "values"):
            seen += value.values()
        elif isinstance(value, tuple):
            seen += value
    assert len(seen) > 100
    assert not [value for value in seen if any(value is cls for cls in classes)]


def test_what_definitions_refer_to_belongs_to_the_project(module):
    part = ModuleType("part")
    part.recommend = module.recommend
    project = fl.compile(part)
    assert list(project.capabilities) == ["recommend"]
    assert list(project.models) == ["ranker"]
    assert set(project.views) == {"user_profile", "item_profile", "user_item", "trends"}
    assert project.timezone == "UTC"


def test_names_exported_twice_are_found_once(module, project):
    double = ModuleType("shop")
    vars(double).update(vars(module))
    vars(double).update({f"{name}_again": value for name, value in vars(module).items()})
    assert fl.compile(double) == project


def test_two_projects_in_one_process():
    one, two = ModuleType("one"), ModuleType("two")
    one.user, two.user = fl.Entity("user_id", int), fl.Entity("user_id", str)
    assert fl.compile(one).entities["user_id"].dtype == "int"
    assert fl.compile(two).entities["user_id"].dtype == "str"


def test_an_empty_module_is_an_empty_project():
    project = fl.compile(ModuleType("nothing"))
    assert (project.name, project.timezone, dict(project.events)) == ("nothing", "UTC", {})


def test_decorated_functions_can_still_be_called(module):
    assert module.ranker(fl.Dataset((), "x", "y", "g", "t")) == "x"  # type: ignore[arg-type]
    scored = fl.Scored(items=[1], scores=[0.5], columns={})  # type: ignore[arg-type]
    assert module.inventory(scored, item_id=[1]) == [0.5]


def test_addresses(module):
    assert module.UserProfile.recent_items.address == "user_profile:recent_items"
    assert repr(module.UserProfile.recent_items) == "UserProfile.recent_items"
    with pytest.raises(DefinitionError, match="belongs to no view"):
        _ = fl.count(module.Order).address


def test_the_item_can_be_said_where_nothing_tells(module):
    @fl.capability("/api/prices", model=module.demand, item=module.item)
    def prices(scored: fl.Scored, products: list[int]) -> list[float]:
        return []

    part = ModuleType("part")
    part.prices = prices
    spec = fl.compile(part).capabilities["prices"]
    assert (spec.item, spec.candidates) == ("item_id", ())


def test_an_event_may_be_of_nobody():
    class Visit(fl.Event):
        user_id: fl.Field[int | None]
        item_id: fl.Field[int]

    user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)

    class UserProfile(fl.FeatureView, entity=user):
        visits = fl.count(Visit)

    class ItemProfile(fl.FeatureView, entity=item):
        visits = fl.count(Visit)

    module = ModuleType("visits")
    vars(module).update(
        {"user": user, "item": item, "Visit": Visit, "U": UserProfile, "I": ItemProfile}
    )
    project = fl.compile(module)
    assert project.feature("user_profile:visits").keys == (project.entities["user_id"],)
    assert project.events["visit"].subject == "user_id"
