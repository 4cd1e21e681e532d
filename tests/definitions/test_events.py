"""Events as values."""

import copy
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import feilun as fl
from feilun.errors import DefinitionError, InputError

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


class Order(fl.Event):
    user_id: fl.Field[int]
    price: fl.Field[float]
    note: fl.Field[str]
    again: fl.Field[bool]
    coupon: fl.Field[str | None] = fl.Field(default=None)
    points: fl.Field[int | None]


RIGHT = {"user_id": 1, "price": 2.5, "note": "x", "again": True, "points": None}


@given(INT64, st.floats(allow_nan=False, allow_infinity=False), TEXT, st.booleans(), TEXT)
def test_what_goes_in_comes_out(user_id, price, note, again, coupon):
    order = Order(
        user_id=user_id, price=price, note=note, again=again, coupon=coupon, points=user_id
    )
    assert order.to_fields() == {
        "user_id": user_id,
        "price": price,
        "note": note,
        "again": again,
        "coupon": coupon,
        "points": user_id,
    }
    assert (order.user_id, order.coupon) == (user_id, coupon)
    assert list(order.to_fields()) == ["user_id", "price", "note", "again", "coupon", "points"]


def test_a_whole_number_is_a_float():
    order = Order(**RIGHT | {"price": 3})
    assert isinstance(order.price, float)
    assert order == Order(**RIGHT | {"price": 3.0})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"user_id": "1"}, "user_id must be int, not '1'"),
        ({"user_id": True}, "user_id must be int, not True"),
        ({"user_id": 1.0}, "user_id must be int"),
        ({"user_id": 2**63}, "user_id must fit in 64 bits"),
        ({"user_id": None}, "user_id must be int, not None"),
        ({"price": "1"}, "price must be float"),
        ({"price": True}, "price must be float"),
        ({"price": float("nan")}, "price must be finite"),
        ({"price": float("-inf")}, "price must be finite"),
        ({"price": 10**400}, "price must fit in 64 bits"),
        ({"note": b"x"}, "note must be str"),
        ({"note": "\ud800"}, "note must be text that UTF-8 can write"),
        ({"again": 1}, "again must be bool"),
        ({"coupon": 1}, "coupon must be str"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_a_wrong_value_is_refused(wrong, said):
    with pytest.raises(InputError) as caught:
        Order(**RIGHT | wrong)
    assert caught.value.message.startswith(f"Order cannot be made: {said}")
    assert ";" not in caught.value.message
    assert "points: int | None" in caught.value.hint


def test_everything_wrong_is_said_at_once():
    with pytest.raises(InputError) as caught:
        Order(price="x", colour=1)
    for said in ("user_id is missing", "price must be", "unknown field 'colour'", "points is miss"):
        assert said in caught.value.message
    assert "coupon" not in caught.value.message


def test_an_event_is_frozen():
    order = Order(**RIGHT)
    with pytest.raises(FrozenInstanceError):
        order.user_id = 2
    with pytest.raises(FrozenInstanceError):
        order.colour = "red"
    with pytest.raises(AttributeError):
        del order.user_id
    order.to_fields()["user_id"] = 2
    assert order.user_id == 1


def test_an_event_is_a_value():
    one, same, other = Order(**RIGHT), Order(**RIGHT), Order(**RIGHT | {"user_id": 2})
    assert one == same == copy.copy(one) == copy.deepcopy(one)
    assert one != other
    assert one != RIGHT
    assert {one, same, other} == {one, other}
    assert repr(one) == (
        "Order(user_id=1, price=2.5, note='x', again=True, coupon=None, points=None)"
    )


def test_a_field_is_a_reference_on_the_class():
    assert repr(Order.user_id) == "Order.user_id"
    assert (Order.coupon.event, Order.coupon.name) == (Order, "coupon")
    with pytest.raises(AttributeError):
        _ = Order.user


def test_a_wrong_class_makes_no_values():
    class Wrong(fl.Event):
        user_id: int

    with pytest.raises(DefinitionError, match="is not a field"):
        Wrong(user_id=1)


class Look(fl.Event):
    item_id: fl.Field[int]
    embedding: fl.Field[fl.Vector] = fl.Field(dim=3)
    second: fl.Field[fl.Vector | None] = fl.Field(default=None, dim=2)


def test_a_vector_is_a_tuple_of_floats():
    look = Look(item_id=1, embedding=[1, 2.5, 0])
    assert look.embedding == (1.0, 2.5, 0.0)
    assert all(type(number) is float for number in look.embedding)
    assert look.second is None
    assert look == Look(item_id=1, embedding=(1.0, 2.5, 0.0))
    assert len({look, Look(item_id=1, embedding=[1, 2.5, 0])}) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([1.0, 2.0], "must have 3 numbers, not 2"),
        ([], "must have 3 numbers, not 0"),
        ([1.0, 2.0, "3"], "must be float, not '3'"),
        ([1.0, 2.0, float("nan")], "must be finite"),
        ([1.0, 2.0, True], "must be float, not True"),
        ("123", "must be a list of 3 numbers, not '123'"),
        ({1.0, 2.0, 3.0}, "must be a list of 3 numbers"),
        (None, "must be vector, not None"),
    ],
)
def test_a_wrong_vector_is_refused(wrong, said):
    with pytest.raises(InputError) as caught:
        Look(item_id=1, embedding=wrong)
    assert caught.value.message.startswith(f"Look cannot be made: embedding {said}")
    assert "embedding: vector of 3" in caught.value.hint


def test_a_field_can_be_a_key_though_it_compares_to_conditions():
    places = {Order.user_id: 1, Order.price: 2}
    assert places[Order.user_id] == 1
    assert Order.note not in places
    assert isinstance(Order.user_id == Order.price, fl.Condition)
    assert isinstance(Order.user_id != 3, fl.Condition)


def test_conditions_read_as_they_are_written():
    condition = (Order.price > 3) & ~Order.note.is_in(["a"]) | (Order.again == True)  # noqa: E712
    assert repr(condition) == (
        "(((Order.price > 3) & ~Order.note.is_in(['a'])) | (Order.again == True))"
    )
    with pytest.raises(TypeError):
        _ = condition & True


def test_a_feature_is_made_by_an_aggregation():
    with pytest.raises(TypeError, match="abstract"):
        fl.Feature()
