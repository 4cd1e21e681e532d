"""What is said about mistakes in features and their conditions."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mistakes import PRELUDE, aggregation, cases, check, problems_of, view, where

FEATURES = {
    "sum of text": (view("fl.sum(Order.color)"), r"sum\(\) takes a number, and Order.color", ""),
    "mean of text": (view("fl.mean(Order.color)"), r"mean\(\) takes a number", "fl.top"),
    "max of text": (view("fl.max(Order.color)"), r"max\(\) takes a number", ""),
    "quantile of text": (view("fl.quantile(Order.color, 0.5)"), r"quantile\(\) takes a number", ""),
    "quantile in percent": (view("fl.quantile(Order.price, 90)"), "90 is not a share", "0 to 1"),
    "quantile of a truth": (view("fl.quantile(Order.price, True)"), "True is not a share", ""),
    "sum of a vector": (view("fl.sum(Order.look)"), r"sum\(\) takes no vector", "fl.mean"),
    "top of a vector": (view("fl.top(Order.look)"), r"top\(\) takes no vector", "fl.last"),
    "vectors of many tiles": (
        "class Look(fl.Event):\n    user_id: fl.Field[int]\n"
        "    v: fl.Field[fl.Vector] = fl.Field(dim=100)\n"
        "class V(fl.FeatureView, entity=user):\n"
        '    f = fl.mean(Look.v, window="21d", hop="1h")  # HERE\n',
        "505 tiles of vectors of 100 numbers are 402 KB a key, and 64 KB are",
        "at most 80 tiles",
    ),
    "list of vectors": (view("fl.last(Order.look, n=3)"), "no list of vectors", "Leave n= out"),
    "default of a vector": (view("fl.last(Order.look, default=[0])"), "a vector takes no", ""),
    "distinct of an event": (view("fl.distinct(Order)"), "takes a field, not Order", ""),
    "decayed text": (view('fl.decayed("x", half_life="1d")'), "an event or a field, not 'x'", ""),
    "where of a truth": (where("True"), "where=True is not a condition", "Compare a field"),
    "where of a field": (where("Order.gift"), "where=Order.gift is not", ""),
    "where of another event": (
        "class E(fl.Event):\n    user_id: fl.Field[int]\n"
        "    color: fl.Field[str]\n" + where("E.color == 'x'"),
        "looks at E.color, and what is aggregated is 'order'",
        "same event",
    ),
    "where of another type": (
        where("Order.price == '3'"),
        r"\(Order.price == '3'\): the value must be float, not '3'",
        "Order.price is float",
    ),
    "where of a fraction": (where("Order.item_id > 1.5"), "must be int, not 1.5", ""),
    "where of nothing": (where("Order.guest_id == None"), "must be int, not None", ""),
    "where of two fields": (
        where("Order.item_id == Order.user_id"),
        "not the field Order.user_id",
        "",
    ),
    "where of infinity": (where("Order.price < float('inf')"), "must be finite", ""),
    "order of truths": (where("Order.gift > False"), "compares a bool with '>'", "== and !="),
    "where of a vector": (where("Order.look == [1, 2]"), "compares a vector", "numbers and text"),
    "where in text": (where("Order.color.is_in('red')"), "must be a list, not 'red'", ""),
    "where in nothing": (where("~Order.color.is_in([])"), "one or more", ""),
    "where in other types": (where("Order.color.is_in(['a', 3])"), "must be str, not 3", ""),
    "where in half": (
        where("(Order.price > 3) & (Order.color == 3)"),
        "must be str, not 3",
        "Order.color is str",
    ),
    "not an aggregation": (
        view("fl.custom(Order, Order.price)"),
        "Order is not an aggregation",
        "fl.Aggregation",
    ),
    "custom of text": (
        aggregation().replace("Order.price", "Order.color"),
        r"custom\(\) takes a number",
        "",
    ),
    "aggregation of an aggregation": (
        "class Base(fl.Aggregation): ...\n" + aggregation("Base"),
        "extends fl.Aggregation and nothing",
        "",
    ),
    "aggregation without a method": (aggregation(lift="None"), "Own: lift is not", "@staticmethod"),
    "aggregation of text": (aggregation(dtype='"str"'), "dtype='str' is unknown", "float"),
    "aggregation of nothing": (aggregation(columns="{}"), "names no columns", "<i8"),
    "column of another type": (aggregation(columns='{"n": "i4"}'), "'n' is 'i4'", "<f8"),
    "column of the tile": (aggregation(columns='{"time": "<i8"}'), "'time' cannot name", "another"),
    "top of a string": (
        view('fl.top("color")'),
        "takes a field, not 'color'",
        r"fl\.top\(Event\.field",
    ),
    "last of an event": (view("fl.last(Order)"), "takes a field, not Order", "by its event"),
    "count of a field": (view("fl.count(Order.price)"), "takes an event, not Order.price", ""),
    "unknown unit": (view('fl.count(Order, window="7y")'), "'7y' is not a window", "s, m, h, d"),
    "window of nothing": (view('fl.count(Order, window="0d")'), "'0d' is not a window", ""),
    "window of a number": (view("fl.count(Order, window=7)"), "7 is not a window", "such as 12h"),
    "window too long": (
        view('fl.count(Order, window="600w")'),
        "longer than ten years",
        "all time",
    ),
    "calendar misspelt": (
        view('fl.count(Order, window="7 days")'),
        "'7 days' is not a window",
        "7 calendar days",
    ),
    "calendar too long": (
        view('fl.count(Order, window="513 calendar days")'),
        "more than 512 days",
        "sliding",
    ),
    "hop of no window": (view('fl.count(Order, hop="1h")'), "nothing without a window", "window="),
    "hop of a calendar": (
        view('fl.count(Order, window="today", hop="1h")'),
        "hops of a day",
        "Leave",
    ),
    "hop misspelt": (
        view('fl.count(Order, window="1d", hop="hour")'),
        "'hour' is not a duration",
        "Write",
    ),
    "hop too long": (
        view('fl.count(Order, window="1h", hop="2h")'),
        "longer than the window",
        "shorter",
    ),
    "hop beside the day": (
        view('fl.count(Order, window="1d", hop="7h")'),
        "neither divides a day",
        "6h",
    ),
    "too many tiles": (
        view('fl.count(Order, window="7d", hop="5m")'),
        "needs 2016 tiles, and 512",
        'hop="30m"',
    ),
    "too many days": (view('fl.count(Order, window="600d")'), "needs 600 tiles", 'hop="2d"'),
    "half-life misspelt": (
        view('fl.decayed(Order, half_life="month")'),
        "'month' is not a duration",
        "",
    ),
    "ttl misspelt": (view('fl.last(Order.price, ttl="x")'), "'x' is not a duration", ""),
    "ttl with a window": (
        view('fl.last(Order.price, ttl="1d", window="7d")'),
        "ttl= is for a single",
        "Leave",
    ),
    "list of none": (view("fl.last(Order.price, n=0)"), "n=0 is no length", "1 to 1000"),
    "list too long": (view("fl.top(Order.color, n=1001)"), "n=1001 is no length", "1 to 1000"),
    "default of another type": (
        view('fl.min(Order.price, default="x")'),
        "default= must be float, not 'x'",
        "float",
    ),
    "default of a list": (
        view("fl.last(Order.price, n=3, default=1.0)"),
        "a list takes no default",
        "Leave",
    ),
}


@pytest.mark.parametrize(("snippet", "what", "fix"), cases(FEATURES))
def test_each_mistake_is_one_problem(tmp_path, snippet, what, fix):
    check(tmp_path, snippet, what, fix)


@pytest.mark.parametrize(
    "condition",
    [
        "Order.price > 3 and Order.price < 9",
        "Order.price > 3 or Order.price < 9",
        "not Order.price > 3",
        "3 < Order.price < 9",
        "Order.price in [3, 9]",
        "Order.price > 3 & Order.price < 9",
        "Order.gift & (Order.price < 9)",
    ],
)
def test_conditions_are_not_truths(tmp_path, condition):
    source, (problem,) = problems_of(tmp_path, PRELUDE + where(condition))
    (marked,) = [n for n, line in enumerate(source.splitlines(), 1) if "# HERE" in line]
    assert problem.where.startswith(f"shop.py:{marked} "), problem
    assert "condition" in problem.what
    assert "&" in problem.fix


def test_a_misspelt_field_of_a_condition_is_named(tmp_path):
    _, (problem,) = problems_of(tmp_path, PRELUDE + where("Order.colour == 'red'"))
    assert problem.fix == "Did you mean 'color'?"
