from __future__ import annotations

import numpy as np
import pytest

from feilun.aggregation import Column
from feilun.definitions.specs import ExpressionSpec, FeatureSpec, FoldSpec, RequestSpec
from feilun.errors import ModelError
from feilun.features.vectors import assemble, column_names


def column(values, dtype=None):
    present = np.array([value is not None for value in values])
    filled = [0 if value is None else value for value in values]
    return Column(np.array(filled, dtype), present)


def test_rows_and_broadcast_columns_side_by_side(shop):
    user, item = (
        shop.feature("user", "count", "user"),
        shop.feature("item", "mean", "item", of="price"),
    )
    matrix, missing = assemble(
        [user, item], {user.address: column([3]), item.address: column([1.5, None, 2.5])}, 3, {}
    )
    np.testing.assert_array_equal(matrix, np.array([[3, 1.5], [3, np.nan], [3, 2.5]], np.float32))
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert missing == []


def test_a_column_without_any_value_is_named_though_a_default_stands_in(shop):
    bare = shop.feature("bare", "mean", "user", of="price")
    filled = shop.feature("filled", "mean", "user", of="price", default=9.0)
    nothing = Column(np.array([9.0]), np.array([False]))
    matrix, missing = assemble(
        [bare, filled], {bare.address: nothing, filled.address: nothing}, 2, {}
    )
    np.testing.assert_array_equal(matrix, [[np.nan, 9.0]] * 2)
    assert missing == ["view:bare", "view:filled"]


def test_text_is_the_place_of_its_category_and_true_is_one(shop):
    text, flag = (
        shop.feature("text", "last", "item", of="city"),
        shop.feature("flag", "last", "item"),
    )
    columns = {
        text.address: column(["b", "a", "new", None], object),
        flag.address: column([True, False, True, None]),
    }
    matrix, _ = assemble([text, flag], columns, 4, {text.address: ["a", "b"]})
    np.testing.assert_array_equal(
        matrix, np.array([[1, 1], [0, 0], [np.nan, 1], [np.nan, np.nan]], np.float32)
    )


def test_a_number_is_rounded_once(shop):
    a, b = (
        shop.feature("a", "sum", "item", of="price"),
        shop.feature("b", "sum", "item", of="price"),
    )
    x, y = 16_777_217.0, 16_777_216.0  # equal as float32
    columns = {a.address: column([x]), b.address: column([y])}
    matrix, _ = assemble([ExpressionSpec("-", a, b)], columns, 1, {})
    assert matrix.tolist() == [[1.0]]


def test_arithmetic_over_features(shop):
    a, b = shop.feature("a", "count", "user"), shop.feature("b", "mean", "item", of="price")
    columns = {a.address: column([6]), b.address: column([2.0, 0.0, None])}
    expressions = [
        ExpressionSpec("/", a, b),
        ExpressionSpec("*", ExpressionSpec("+", a, 1.0), b),
        ExpressionSpec("/", b, b),
    ]
    matrix, missing = assemble(expressions, columns, 3, {})
    nan = np.nan
    np.testing.assert_array_equal(matrix, [[3, 14, 1], [nan, 0, nan], [nan, nan, nan]])
    assert missing == []


def test_beyond_float32_is_infinite_without_a_warning(shop):
    a = shop.feature("a", "sum", "item", of="price")
    matrix, _ = assemble([a], {a.address: column([1e300])}, 1, {})
    assert matrix.tolist() == [[np.inf]]


def vector(name):
    fold = FoldSpec("last", "buy", "look", "vector", (), 0, "UTC", dim=2)
    return FeatureSpec("view", name, fold, None, 0, "vector", False, 1, None, None)


def test_a_vector_is_a_column_for_each_of_its_numbers(shop):
    a, look, taste = shop.feature("a", "count", "user"), vector("look"), vector("taste")
    columns = {
        a.address: column([7]),
        look.address: Column(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([True, False])),
        taste.address: Column(np.array([[5.0, 6.0]]), np.array([True])),
    }
    matrix, missing = assemble([look, a, taste], columns, 2, {})
    np.testing.assert_array_equal(matrix, [[1, 2, 7, 5, 6], [np.nan, np.nan, 7, 5, 6]])
    assert missing == []
    assert column_names([look, a, taste]) == (
        "view:look[0]", "view:look[1]", "view:a", "view:taste[0]", "view:taste[1]",
    )  # fmt: skip


def test_a_vector_of_nobody_is_named_once(shop):
    look = vector("look")
    nothing = Column(np.zeros((1, 2)), np.array([False]))
    matrix, missing = assemble([look], {look.address: nothing}, 3, {})
    assert (matrix.shape, missing) == ((3, 2), ["view:look"])


def test_what_the_request_says_is_for_all_rows(shop):
    device, hour = RequestSpec("device", "str"), RequestSpec("hour", "int", "UTC")
    columns = {
        device.address: column(["web"], object),
        hour.address: column([23]),
    }
    wanted = [hour, device, ExpressionSpec("*", hour, 2.0)]
    matrix, _ = assemble(wanted, columns, 2, {"request:device": ["app", "web"]})
    np.testing.assert_array_equal(matrix, [[23, 1, 46]] * 2)


def test_an_expression_that_was_computed_is_taken(shop):
    a = shop.feature("a", "count", "user")
    ratio = ExpressionSpec("/", a, 2.0, "view", "ratio")
    matrix, _ = assemble([ratio], {"view:ratio": column([0.5])}, 1, {})
    assert matrix.tolist() == [[0.5]]


def test_lists_and_text_without_categories_are_refused(shop):
    items = shop.feature("items", "last", "user", of="item", n=3)
    city = shop.feature("city", "last", "user", of="city")
    with pytest.raises(ModelError, match="list"):
        assemble([items], {items.address: column([None], object)}, 1, {})
    with pytest.raises(ModelError, match="categories"):
        assemble([city], {city.address: column(["a"], object)}, 1, {})


def test_no_rows(shop):
    a = shop.feature("a", "count", "item")
    matrix, missing = assemble([a], {a.address: column([], np.int64)}, 0, {})
    assert (matrix.shape, missing) == ((0, 1), [])
