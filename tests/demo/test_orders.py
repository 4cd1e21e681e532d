"""Orders: what is taken from a file, what is left out, and when it happened."""

from datetime import datetime

import pytest

from feilun.clock import HOUR, to_iso
from feilun.demo.orders import INSTACART_START, OrderColumns, from_columns, instacart
from feilun.errors import InputError

NAMES = OrderColumns("客户", "订单", "商品", "时间", "数量")


def _lines(*rows):
    return {
        name: [row[at] for row in rows]
        for at, name in enumerate(("客户", "订单", "商品", "时间", "数量"))
    }


def test_dirty_lines_are_left_out_and_counted():
    lines = _lines(
        (7, "A", "茶", "2026-03-01 10:00:00", 1),
        (7, "A", "茶", "2026-03-01 10:00:00", 2),
        (7, "A", "米", "2026-03-01 09:59:00", 1),
        (None, "B", "茶", "2026-03-01 11:00:00", 1),
        (8, "C1", "茶", "2026-03-02 11:00:00", -1),
        (8, "D", "", "2026-03-02 11:00:00", 1),
        (7, "E", "茶", "2026-03-03 08:00:00", 1),
    )
    history = from_columns(lines, NAMES, "Asia/Shanghai", "lines.csv")
    assert [(order.customer, order.number, order.products) for order in history.orders] == [
        (7, 1, ("茶", "米")),
        (7, 2, ("茶",)),
    ]
    assert to_iso(history.orders[0].time) == "2026-03-01T01:59:00+00:00"
    assert history.left_out == {
        "the same product again in one order": 1,
        "no customer": 1,
        "a quantity of zero or less": 1,
        "no product": 1,
    }


def test_a_missing_column_says_which_there_are():
    with pytest.raises(InputError, match="no column '数量'") as caught:
        from_columns({"客户": [], "订单": [], "商品": [], "时间": []}, NAMES, "UTC", "x.csv")
    assert "'客户'" in caught.value.hint


@pytest.mark.parametrize("when", ["yesterday", 20260301])
def test_a_time_that_is_none_is_refused(when):
    lines = _lines((7, "A", "茶", when, 1))
    with pytest.raises(InputError, match="is not one"):
        from_columns(lines, NAMES, "UTC", "x.csv")


def test_nothing_usable_is_an_error():
    lines = _lines((None, "A", "茶", "2026-03-01", 1))
    with pytest.raises(InputError, match="no usable order line"):
        from_columns(lines, NAMES, "UTC", "x.csv")


def test_whole_floats_are_the_ids_they_stand_for():
    lines = _lines((7.0, 1.0, 12.0, datetime(2026, 3, 1), 1))
    (order,) = from_columns(lines, NAMES, "UTC", "x").orders
    assert (order.customer, order.products) == (7, (12,))


def _sample(*rows):
    names = ("user_id", "order_number", "order_dow", "order_hour_of_day",
             "days_since_prior_order", "add_to_cart_order", "product_id")  # fmt: skip
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def test_the_sample_is_put_on_a_calendar():
    history = instacart(
        _sample(
            (1, 1, 2, 8, None, 2.0, 11),
            (1, 1, 2, 8, None, 1.0, 10),
            (1, 2, 5, 7, 3.0, 1.0, 10),
            (1, 3, 1, 7, 30.0, 1.0, 12),
        ),
        "Asia/Shanghai",
    )
    first, second, third = history.orders
    assert first.products == (10, 11)
    assert (second.time - first.time) == 3 * 24 * HOUR - HOUR
    # Thirty days after weekday 5 is weekday 0; "30 or more" rolls on to weekday 1.
    assert (third.time - second.time) == 31 * 24 * HOUR
    assert to_iso(first.time)[:10] == INSTACART_START.replace(day=3).isoformat()
