"""Definitions for ``test_real_data.py``: every aggregation that fits what shops really record."""

import numpy as np

import feilun as fl

settings = fl.Settings(timezone="Europe/London", owner="tests")

customer = fl.Entity("customer", int)
product = fl.Entity("product", str)
country = fl.Entity("country", str)


class Line(fl.Event):
    """A line of an invoice: a sale, a return (below zero), or an adjustment of the books."""

    customer: fl.Field[int | None]
    product: fl.Field[str]
    country: fl.Field[str]
    quantity: fl.Field[int]
    price: fl.Field[float]
    amount: fl.Field[float]
    cancels: fl.Field[bool]
    description: fl.Field[str | None] = fl.Field(default=None)


class Harmonic(fl.Aggregation):
    """The harmonic mean of the numbers above zero."""

    columns = {"n": "<i8", "total": "<f8"}  # noqa: RUF012
    dtype = "float"

    @staticmethod
    def lift(rows, time, values):
        rows["n"][:] = values > 0
        rows["total"][:] = 1 / np.where(values > 0, values, np.inf)

    @staticmethod
    def reduce(columns, starts):
        return {name: np.add.reduceat(rows, starts) for name, rows in columns.items()}

    @staticmethod
    def finish(columns, offsets, as_of):
        filled = offsets[:-1] < offsets[1:]
        merged = Harmonic.reduce(columns, offsets[:-1][filled])
        n, total = np.zeros(len(filled)), np.ones(len(filled))
        n[filled], total[filled] = merged["n"], merged["total"]
        return n / np.where(n, total, 1), n > 0


class Customer(fl.FeatureView, entity=customer):
    lines = fl.count(Line)
    lines_7d = fl.count(Line, window="7d")
    lines_90m = fl.count(Line, window="90m", hop="5m")
    today = fl.count(Line, window="today")
    units = fl.sum(Line.quantity)
    returned = fl.sum(Line.quantity, window="3 calendar days", where=Line.quantity < 0)
    spent = fl.sum(Line.amount)
    spent_7d = fl.sum(Line.amount, window="7d")
    spent_3d = fl.sum(Line.amount, window="3 calendar days")
    price = fl.mean(Line.price, window="36h")
    cancelled = fl.mean(Line.cancels)
    spread = fl.std(Line.amount, window="7d")
    variance = fl.var(Line.quantity)
    least = fl.min(Line.quantity)
    dearest = fl.max(Line.price, window="7d", default=0.0)
    first_product = fl.first(Line.product)
    first_price_3d = fl.first(Line.price, window="3 calendar days")
    last_country = fl.last(Line.country)
    last_described = fl.last(Line.description)
    last_returned = fl.last(
        Line.product,
        where=(Line.quantity < 0) | Line.cancels.is_in([True]),
        ttl="5d",
    )
    recent = fl.last(Line.product, n=20)
    recent_dear = fl.last(Line.price, n=3, window="7d", where=Line.price > 5)
    products = fl.distinct(Line.product, window="7d")
    favourite = fl.top(Line.product)
    favourites_7d = fl.top(Line.product, window="7d", n=5)
    median = fl.quantile(Line.price, 0.5, window="7d")
    most = fl.quantile(Line.quantity, 0.9)
    habit = fl.decayed(Line, half_life="2d")
    worth = fl.decayed(Line.amount, half_life="7d")
    since_line = fl.since_last(Line)
    since_return = fl.since_last(Line, where=Line.quantity < 0)
    harmonic = fl.custom(Harmonic, Line.price, window="7d", default=0.0)
    per_line = spent / lines
    share_today = today / (lines_7d + 1)


class Product(fl.FeatureView, entity=product):
    sold_7d = fl.sum(Line.quantity, window="7d", where=Line.quantity > 0)
    returned_7d = fl.sum(Line.quantity, window="7d", where=Line.quantity < 0)
    buyers = fl.distinct(Line.customer)
    unnamed = fl.count(Line, where=~(Line.customer > 0))
    price = fl.last(Line.price, where=Line.price > 0)
    cheapest = fl.min(Line.price)
    called = fl.top(Line.description, window="3 calendar days", n=3)
    return_rate = returned_7d / (sold_7d + 1)


class CustomerProduct(fl.FeatureView, entity=(customer, product)):
    lines = fl.count(Line)
    units_7d = fl.sum(Line.quantity, window="7d")
    since_line = fl.since_last(Line)


class CountryProduct(fl.FeatureView, entity=(country, product)):
    units_today = fl.sum(Line.quantity, window="today")
    last_price = fl.last(Line.price)


class Trends(fl.FeatureView):
    lines_1h = fl.count(Line, window="1h")
    popular = fl.top(Line.product, window="3 calendar days", n=50)
    varieties = fl.distinct(Line.product, window="7d")
    turnover = fl.sum(Line.amount, window="today")
    median = fl.quantile(Line.price, 0.5, window="7d")


class Late(fl.FeatureView, entity=customer):
    """What the project gains while it runs."""

    dearest_ever = fl.max(Line.amount)
    lines_30d = fl.count(Line, window="30d")
    returns = fl.last(Line.product, n=5, where=Line.quantity < 0)


class LateTrends(fl.FeatureView):
    countries = fl.top(Line.country, n=10)
