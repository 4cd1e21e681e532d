from dataclasses import replace

import pytest

from feilun.definitions.evolution import changes, differences
from feilun.definitions.specs import EventSpec, FieldSpec, TableSpec

USER = FieldSpec("user_id", "int")
STOCK = TableSpec("warehouse", "stock", ("item_id",), "at", ("item_id",), None, 0)


def click(*fields, version=1, subject="user_id", table=None):
    return EventSpec("click", version, (USER, *fields), subject, table=table)


def known(*shapes):
    return {shape.schema_id: shape for shape in shapes}


def f(name, dtype, optional=False, dim=0):
    return FieldSpec(name, dtype, optional, dim)


ALLOWED = {
    "the same": (click(f("x", "int")), click(f("x", "int")), []),
    "added": (click(), click(f("x", "str", True)), ["+ x (optional)"]),
    "removed": (click(f("x", "str")), click(), ["- x"]),
    "widened": (click(f("x", "int")), click(f("x", "float")), ["x: int → float"]),
    "optional": (click(f("x", "int")), click(f("x", "int", True)), ["x: optional"]),
    "all at once": (
        click(f("x", "int"), f("y", "str")),
        click(f("z", "vector", True, 3), f("x", "float", True)),
        ["+ z (optional)", "- y", "x: int → float", "x: optional"],
    ),
    "moved": (
        click(f("x", "int"), f("y", "str")),
        click(f("y", "str"), f("x", "int")),
        ["fields in another order"],
    ),
    "a version": (click(version=2), click(version=3), ["version 2 → 3"]),
    "another event": (
        EventSpec("view", 1, (f("user_id", "str"),), None),
        click(),
        [],
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_may_change(case):
    old, new, said = ALLOWED[case]
    assert changes(known(old), new) == []
    assert differences(known(old), new) == said
    assert differences({}, new) == []


REFUSED = {
    "another type": (f("x", "str"), f("x", "int"), "was str in click.v1.", "and is int now"),
    "narrower": (f("x", "float"), f("x", "int"), "was float in", "and is int now"),
    "a bool is no int": (f("x", "bool"), f("x", "int"), "was bool in", "and is int now"),
    "a longer vector": (
        f("x", "vector", False, 2),
        f("x", "vector", False, 3),
        "was Vector, dim=2 in",
        "and is Vector, dim=3 now",
    ),
    "required": (f("x", "int", True), f("x", "int"), "is required", "may lack it"),
    "a type of a newer version": (f("x", "decimal"), f("x", "float"), "was decimal", "float now"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("version", [1, 2])
def test_what_may_not_change_whatever_the_version(case, version):
    old, new, what, now = REFUSED[case]
    shape = click(old)
    (problem,) = changes(known(shape), click(new, version=version))
    assert problem.where == "click.x"
    assert what in problem.what
    assert now in problem.what
    assert shape.schema_id in problem.what
    assert problem.fix


def test_a_new_field_must_be_optional():
    (problem,) = changes(known(click()), click(f("look", "vector", False, 4)))
    assert (problem.where, problem.fix) == ("click.look", "Write fl.Field[Vector | None].")
    assert "lack it" in problem.what


def test_a_field_that_comes_back_is_what_it_was():
    shapes = known(click(f("x", "str")), click())
    (problem,) = changes(shapes, click(f("x", "int", True)))
    assert "was str" in problem.what
    assert changes(shapes, click(f("x", "str", True))) == []


def test_one_problem_a_field_however_many_shapes_it_breaks_with():
    shapes = known(*(click(f("x", "str"), version=n) for n in (1, 2, 3)), click())
    assert len(changes(shapes, click(f("x", "int"), f("y", "int")))) == 2


def test_a_subject_stays_or_erasing_would_miss_records():
    item = f("item_id", "int")
    shape = click(item)
    (problem,) = changes(known(shape), replace(shape, subject="item_id"))
    assert problem.where == "click"
    assert "about user_id" in problem.what
    assert problem.fix == "Put user_id before item_id, or define a new event."
    (problem,) = changes(known(shape), replace(shape, subject=None))
    assert problem.fix == "Keep the entity user_id and its type, or define a new event."
    (problem,) = changes(known(shape), EventSpec("click", 1, (item,), "item_id"))
    assert problem.fix == "Define a new event."
    (problem,) = changes(known(replace(shape, subject=None)), shape)
    assert "about nobody" in problem.what


def test_the_key_of_a_tables_rows_stays():
    item, shop = f("item_id", "int"), f("shop_id", "int")
    table = EventSpec("stock", 1, (item, shop), "item_id", table=STOCK)
    both = replace(table, table=replace(STOCK, key=("item_id", "shop_id")))
    (problem,) = changes(known(table), both)
    assert "named by item_id in stock.v1." in problem.what
    assert "named by item_id, shop_id now" in problem.what
    (problem,) = changes(known(table), replace(table, table=None))
    assert "sent by clients now" in problem.what
    moved = replace(STOCK, source="lake", table="stocks", time="changed", every=5)
    assert changes(known(table), replace(table, table=moved)) == []


def test_what_is_new_is_told_from_the_shape_that_is_most_like_it():
    shapes = known(click(), click(f("x", "int", True)))
    assert differences(shapes, click(f("x", "int", True), f("y", "int", True))) == [
        "+ y (optional)"
    ]
    assert differences(shapes, click()) == []
