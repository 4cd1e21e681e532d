"""Arithmetic, and what the request says: one code, the same bits for one row and for many."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.aggregation import Column
from feilun.definitions.specs import ExpressionSpec, FeatureSpec, FoldSpec, RequestSpec
from feilun.errors import InputError
from feilun.features.expressions import complete, evaluate, request_columns


def column(values, dtype=np.float64):
    present = np.array([value is not None for value in values], np.bool_)
    return Column(np.array([value or 0 for value in values], dtype), present)


def told(found):
    """Write a column as a list, None where it is missing."""
    values = zip(found.values.tolist(), found.present.tolist(), strict=True)
    return [value if present else None for value, present in values]


@pytest.fixture
def sides(shop):
    return (
        shop.feature("a", "count", "user"),
        shop.feature("b", "mean", "item", of="price"),
    )


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("+", [8.0, 6.0, None]),
        ("-", [4.0, 6.0, None]),
        ("*", [12.0, 0.0, None]),
        ("/", [3.0, None, None]),
    ],
)
def test_a_missing_operand_and_a_division_by_zero_are_missing(sides, op, expected):
    a, b = sides
    columns = {a.address: column([6], np.int64), b.address: column([2.0, 0.0, None])}
    assert told(evaluate(ExpressionSpec(op, a, b), columns)) == expected


def test_a_default_stands_in(shop):
    a = shop.feature("a", "mean", "user", of="price", default=8.0)
    absent = Column(np.array([8.0]), np.array([False]))
    assert told(evaluate(ExpressionSpec("/", a, 2.0), {a.address: absent})) == [4.0]


def test_what_is_beyond_a_float_is_missing(sides):
    a, b = sides
    columns = {a.address: column([1e308]), b.address: column([1e308])}
    assert told(evaluate(ExpressionSpec("*", a, b), columns)) == [None]
    assert told(evaluate(ExpressionSpec("+", a, b), columns)) == [None]


def test_a_value_in_between_may_be_missing_too(sides):
    a, b = sides
    ratio = ExpressionSpec("/", a, b, "view", "ratio")
    columns = {a.address: column([1, 1]), b.address: column([0, 4])}
    assert told(evaluate(ExpressionSpec("*", ratio, 2.0), columns)) == [None, 0.5]


def test_what_is_beyond_a_float_in_between_is_missing_whether_it_has_a_name_or_not(sides):
    a, b = sides
    columns = {a.address: column([1e308]), b.address: column([1e308])}
    product = ExpressionSpec("*", a, b)
    for inner in (product, dataclasses.replace(product, view="view", name="product")):
        whole = ExpressionSpec("/", 1.0, inner)
        assert told(evaluate(whole, columns)) == [None]
        assert told(complete([inner, whole], columns)[whole.address]) == [None]


def test_what_is_there_is_not_computed_again(sides):
    a, _ = sides
    double = ExpressionSpec("*", a, 2.0, "view", "double")
    known = {a.address: column([1.0]), "view:double": column([7.0])}
    assert told(complete([a, double], known)["view:double"]) == [7.0]
    assert told(complete([double], {a.address: column([1.0])})["view:double"]) == [2.0]


def of_dtype(name, dtype, **changes):
    fold = FoldSpec("last", "buy", name, dtype, (), 0, "UTC", dim=3 if dtype == "vector" else 0)
    fields = {"window": None, "calendar": 0, "dtype": dtype, "is_list": False, "n": 1}
    return FeatureSpec("view", name, fold, **fields, **{"default": None, "ttl": None, **changes})


def test_same_texts():
    mine, its = of_dtype("mine", "str"), of_dtype("its", "str")
    columns = {
        mine.address: column(["a"], object),
        its.address: column(["a", "b", None, ""], object),
    }
    assert told(evaluate(ExpressionSpec("same", mine, its), columns)) == [1.0, 0.0, None, 0.0]


def test_a_default_text_can_be_the_same():
    mine, its = of_dtype("mine", "str", default="a"), of_dtype("its", "str")
    columns = {
        mine.address: Column(np.array(["a"], object), np.array([False])),
        its.address: column(["a"], object),
    }
    assert told(evaluate(ExpressionSpec("same", mine, its), columns)) == [1.0]


def test_same_numbers(sides):
    a, b = sides
    columns = {a.address: column([3], np.int64), b.address: column([3.0, 2.0, None])}
    assert told(evaluate(ExpressionSpec("same", a, b), columns)) == [1.0, 0.0, None]


VECTORS = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, -3.0, 1e-300, 1e300, 0.1]), min_size=3, max_size=3),
    min_size=1,
    max_size=9,
)


def cosines(left, right):
    a, b = of_dtype("a", "vector"), of_dtype("b", "vector")
    columns = {
        side.address: Column(np.array(values, np.float64), np.ones(len(values), np.bool_))
        for side, values in ((a, left), (b, right))
    }
    return evaluate(ExpressionSpec("cosine", a, b), columns)


def test_cosines():
    found = cosines([[3, 0, 4]], [[3, 0, 4], [-6, 0, -8], [0, 1, 0], [0, 0, 0], [4, 0, 3]])
    assert told(found) == [1.0, -1.0, 0.0, None, pytest.approx(24 / 25)]


def test_a_missing_vector_has_no_cosine():
    a, b = of_dtype("a", "vector"), of_dtype("b", "vector")
    columns = {
        a.address: Column(np.ones((1, 3)), np.array([False])),
        b.address: Column(np.ones((2, 3)), np.array([True, True])),
    }
    assert told(evaluate(ExpressionSpec("cosine", a, b), columns)) == [None, None]


@given(left=VECTORS, one=VECTORS)
def test_many_cosines_are_what_one_cosine_is(left, one):
    found = cosines(left, one[:1])
    alone = [cosines([row], one[:1]) for row in left]
    assert found.values.tobytes() == b"".join(each.values.tobytes() for each in alone)
    assert all(-1 <= value <= 1 for value in found.values[found.present])
    has_direction = [any(row) and any(one[0]) for row in left]
    assert found.present.tolist() == has_direction


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.just(0.0))


@given(
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=9),
    ops=st.lists(st.sampled_from("+-*/"), min_size=2, max_size=2),
)
def test_many_rows_are_what_one_row_is(rows, ops):
    fold = FoldSpec("mean", "buy", "price", "float", (), 0, "UTC")
    a, b, c = (
        FeatureSpec("view", name, fold, None, 0, "float", False, 1, None, None) for name in "abc"
    )
    expression = ExpressionSpec(ops[0], ExpressionSpec(ops[1], a, b), c)

    def ask(given_rows):
        parts = zip((a, b, c), zip(*given_rows, strict=True), strict=True)
        return evaluate(expression, {side.address: column(values) for side, values in parts})

    together, alone = ask(rows), [ask([row]) for row in rows]
    assert together.values.tobytes() == b"".join(each.values.tobytes() for each in alone)
    assert together.present.tolist() == [bool(each.present[0]) for each in alone]


HOUR = RequestSpec("hour", "int", "Asia/Shanghai")
WEEKDAY = RequestSpec("weekday", "int", "Asia/Shanghai")


def test_moments_are_local(shop):
    # 2024-10-06 was a Sunday; at 16:30 UTC it is Monday, half past midnight, in Shanghai.
    at = 1_728_232_200_000_000
    found = request_columns([HOUR, WEEKDAY], [at, at - 1_800_000_001], [{}, {}])
    assert told(found["request:hour"]) == [0, 23]
    assert told(found["request:weekday"]) == [0, 6]


def test_hours_follow_the_change_of_clocks():
    berlin = RequestSpec("hour", "int", "Europe/Berlin")
    at = 1_729_990_800_000_000  # 2024-10-27 01:00 UTC: 3 becomes 2 o'clock
    found = request_columns([berlin], [at - 1, at, at + 3_600_000_000], [{}] * 3)
    assert told(found["request:hour"]) == [2, 2, 3]


def test_a_moment_beyond_the_calendar_is_refused():
    with pytest.raises(InputError, match="years 1 to 9999"):
        request_columns([HOUR], [2**62], [{}])


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("str", ["web", "", 3, None], ["web", "", None, None]),
        ("int", [3, True, "3", 2.5], [3, None, None, None]),
        ("float", [2.5, 3, True, "x"], [2.5, 3.0, None, None]),
        ("bool", [True, False, 1, "x"], [True, False, None, None]),
    ],
)
def test_parameters_of_another_type_are_missing(dtype, given, expected):
    asked = [{"x": value} for value in given] + [{}]
    found = request_columns([RequestSpec("x", dtype)], [0] * len(asked), asked)
    assert told(found["request:x"]) == [*expected, None]
