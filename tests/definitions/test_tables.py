"""Tables: what they compile to, and what is said about each mistake."""

import re
from types import ModuleType

import pytest

import feilun as fl
from feilun.clock import DAY, HOUR, MINUTE
from feilun.definitions.loading import load_project
from feilun.definitions.specs import TableSpec
from feilun.errors import DefinitionError

item, city = fl.Entity("item_id", int), fl.Entity("city", str)


class Stock(fl.Table, key=item, source="warehouse.stock", time="updated_at", every="15m"):
    """What lies in the warehouse."""

    item_id: fl.Field[int]
    quantity: fl.Field[int]
    note: fl.Field[str | None]


class Price(
    fl.Table,
    key=(item, city),
    source="warehouse.Shop 商店.Price$",
    time="时间",
    columns={"item_id": "ItemNo", "price": "价格"},
    delay="1d",
    lookback="2h",
    version=3,
    owner="pricing",
):
    item_id: fl.Field[int]
    city: fl.Field[str]
    price: fl.Field[float]


class ItemProfile(fl.FeatureView, entity=item):
    stock = fl.last(Stock.quantity, ttl="1d")
    least = fl.min(Stock.quantity, window="7d")
    first_note = fl.first(Stock.note)
    changes = fl.count(Stock)
    price = fl.mean(Price.price)


def project_of(*names):
    module = ModuleType("shop")
    vars(module).update({name: globals()[name] for name in names})
    return fl.compile(module)


def test_a_table_compiles_to_an_event_with_its_source():
    project = project_of("ItemProfile")
    stock, price = project.events["stock"], project.events["price"]
    assert stock.table == TableSpec(
        source="warehouse",
        table="stock",
        key=("item_id",),
        time="updated_at",
        columns=("item_id", "quantity", "note"),
        every=15 * MINUTE,
        lookback=HOUR,
        available=None,
    )
    assert (stock.subject, stock.description) == ("item_id", "What lies in the warehouse.")
    assert price.table == TableSpec(
        source="warehouse",
        table="Shop 商店.Price$",
        key=("item_id", "city"),
        time="时间",
        columns=("ItemNo", "city", "价格"),
        every=None,
        lookback=2 * HOUR,
        available=DAY,
    )
    assert (price.version, price.owner) == (3, "pricing")


def test_its_key_belongs_to_the_project():
    assert set(project_of("Price").entities) == {"item_id", "city"}


def test_fields_of_tables_are_aggregated_as_those_of_events():
    project = project_of("ItemProfile")
    stock = project.feature("item_profile:stock")
    assert (stock.fold.kind, stock.fold.event, stock.fold.field) == ("last", "stock", "quantity")
    assert stock.ttl == DAY
    assert len(project.views["item_profile"].features) == 5


def test_what_clients_send_and_what_is_synchronised_are_apart():
    class Click(fl.Event):
        item_id: fl.Field[int]

    module = ModuleType("shop")
    vars(module).update(item=item, Click=Click, Stock=Stock)
    project = fl.compile(module)
    assert list(project.sent_events) == ["click"]
    assert list(project.tables) == ["stock"]
    assert list(project.events) == ["click", "stock"]


def test_where_it_comes_from_is_no_part_of_its_shape():
    class Elsewhere:
        class Stock(fl.Table, key=item, source="lake.stock", time="at"):
            item_id: fl.Field[int]
            quantity: fl.Field[int]
            note: fl.Field[str | None]

    module = ModuleType("shop")
    vars(module).update(Stock=Elsewhere.Stock)
    assert (
        fl.compile(module).events["stock"].schema_id
        == project_of("Stock").events["stock"].schema_id
    )


RIGHT = {"key": "item", "source": '"warehouse.stock"', "time": '"updated_at"'}
MISTAKES = {
    "no dot": ({"source": '"stock"'}, "does not name a table", "warehouse.stock"),
    "source name": ({"source": '"Warehouse.stock"'}, "does not name a table", ""),
    "quotes in a name": ({"source": """'warehouse.st"ock'"""}, "does not name a table", ""),
    "path in a name": ({"source": '"warehouse.../secret"'}, "does not name a table", ""),
    "empty part": ({"source": '"warehouse.a..b"'}, "does not name a table", ""),
    "key that is no entity": ({"key": '"item_id"'}, "is not entities", "key=item"),
    "no key": ({"key": "()"}, "is not entities", "key=item"),
    "key that is no field": ({"key": "user"}, "no field 'user_id'", "Did you mean"),
    "key of another type": ({"key": "code"}, "'code' is int in the event", "same type"),
    "key that may be absent": ({"key": "guest"}, "'guest_id' may be None", "required"),
    "time": ({"time": "None"}, "time= None is not the name of a column", "quotes"),
    "every": ({"every": '"often"'}, "every= 'often' is not a duration", "12h"),
    "lookback": ({"lookback": '"long"'}, "lookback= 'long'", "12h"),
    "delay": ({"delay": "5"}, "delay= 5 is not a duration", ""),
    "both": ({"delay": '"1d"', "available_at": '"a"'}, "exclude each other", "one of them"),
    "columns": ({"columns": '{"itm_id": "a"}'}, "names 'itm_id'", "Did you mean 'item_id'"),
    "column": ({"columns": '{"item_id": 5}'}, "of 'item_id' 5 is not the name", ""),
    "no mapping": ({"columns": '["a"]'}, "is not a mapping", ""),
}


@pytest.mark.parametrize(("wrong", "what", "fix"), MISTAKES.values(), ids=MISTAKES)
def test_one_mistake_is_one_problem(tmp_path, wrong, what, fix):
    keywords = ", ".join(f"{name}={value}" for name, value in (RIGHT | wrong).items())
    (tmp_path / "shop.py").write_text(
        f"""\
import feilun as fl
item, user = fl.Entity("item_id", int), fl.Entity("user_id", int)
code, guest = fl.Entity("code", str), fl.Entity("guest_id", int)
class Stock(fl.Table, {keywords}):
    item_id: fl.Field[int]
    code: fl.Field[int]
    guest_id: fl.Field[int | None]
""",
        encoding="utf-8",
    )
    with pytest.raises(DefinitionError) as caught:
        load_project(tmp_path / "shop.py")
    (problem,) = caught.value.problems
    assert problem.where.endswith("shop.py:4 Stock")
    assert re.search(re.escape(what), problem.what)
    assert fix in problem.fix


def test_a_table_is_not_extended(tmp_path):
    (tmp_path / "shop.py").write_text(
        """\
import feilun as fl
item = fl.Entity("item_id", int)
class Stock(fl.Table, key=item, source="warehouse.stock", time="at"):
    item_id: fl.Field[int]
class More(Stock, key=item, source="warehouse.more", time="at"):
    item_id: fl.Field[int]
""",
        encoding="utf-8",
    )
    with pytest.raises(DefinitionError, match=r"extends fl.Event, or fl.Table, and nothing else"):
        load_project(tmp_path / "shop.py")


def test_rows_of_a_table_make_no_turn_due(tmp_path):
    (tmp_path / "shop.py").write_text(
        """\
import feilun as fl
item = fl.Entity("item_id", int)
class Click(fl.Event):
    item_id: fl.Field[int]
class Stock(fl.Table, key=item, source="warehouse.stock", time="at"):
    item_id: fl.Field[int]
class Item(fl.FeatureView, entity=item):
    changes = fl.count(Stock)
@fl.model(features=[Item], label=fl.outcome(Click, within="1d", measure="count"), metric="wape")
def demand(data): ...
@fl.capability("/api/demand", model=demand, fallback=Item.changes)
def ask(scored: fl.Scored, item_id: list[int]): ...
loop = fl.Flywheel(demand, turn=fl.after(5, Stock), gate=fl.better())
""",
        encoding="utf-8",
    )
    with pytest.raises(DefinitionError, match="Stock is a table"):
        load_project(tmp_path / "shop.py")
