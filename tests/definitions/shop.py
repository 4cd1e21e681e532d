"""A project that uses everything a definition can say: several tests compile it."""

import numpy as np

import feilun as fl

settings = fl.Settings(timezone="Asia/Shanghai", owner="shop")

user = fl.Entity("user_id", int, description="A customer.")
item = fl.Entity("item_id", int)


class Order(fl.Event, version=2, owner="orders"):
    """One product in one order."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]
    price: fl.Field[float]
    category: fl.Field[str]
    again: fl.Field[bool]
    coupon: fl.Field[str | None] = fl.Field(default=None)
    points: fl.Field[int | None] = fl.Field(default=None)
    look: fl.Field[fl.Vector | None] = fl.Field(default=None, dim=2)
    campaign: fl.Field[str | None] = fl.Field(default=None, deprecated=True)


class Stock(fl.Event, description="How much is on the shelf."):
    item_id: fl.Field[int]
    quantity: fl.Field[int]


class Extent(fl.Aggregation):
    """The distance between the farthest values."""

    columns = {"low": "<f8", "high": "<f8"}  # noqa: RUF012
    dtype = "float"

    @staticmethod
    def lift(rows, time, values):
        rows["low"][:] = rows["high"][:] = values

    @staticmethod
    def reduce(columns, starts):
        return {
            "low": np.minimum.reduceat(columns["low"], starts),
            "high": np.maximum.reduceat(columns["high"], starts),
        }

    @staticmethod
    def finish(columns, offsets, as_of):
        filled = offsets[:-1] < offsets[1:]
        merged = Extent.reduce(columns, offsets[:-1][filled])
        extents = np.zeros(len(filled))
        extents[filled] = merged["high"] - merged["low"]
        return extents, filled


class UserProfile(fl.FeatureView, entity=user, owner="growth"):
    """How a customer shops."""

    orders = fl.count(Order)
    orders_7d = fl.count(Order, window="7d", description="Order lines of seven days.")
    orders_30d = fl.count(Order, window="30d")
    orders_today = fl.count(Order, window="today")
    spent_1h = fl.sum(Order.price, window="1h", hop="1m")
    points = fl.sum(Order.points, window="7 calendar days")
    bought_again = fl.mean(Order.again)
    cheapest = fl.min(Order.price, default=0.0)
    dearest = fl.max(Order.price)
    first_coupon = fl.first(Order.coupon, default="none")
    category = fl.top(Order.category, window="30d")
    categories = fl.top(Order.category, window="30d", n=3)
    recent_items = fl.last(Order.item_id, n=50)
    since_order = fl.since_last(Order)
    fondness = fl.decayed(Order, half_life="30d")
    faded_spent = fl.decayed(Order.price, half_life="30d", where=Order.again == True)  # noqa: E712
    teas = fl.count(
        Order,
        where=(Order.price > 3)
        & (Order.category.is_in(["tea", "green tea"]))
        & ~Order.again.is_in([True]),
    )
    spread = fl.std(Order.price, window="30d", default=0)
    median = fl.quantile(Order.price, 0.5, window="30d")
    nearly_dearest = fl.quantile(Order.price, 0.9, window="30d")
    different = fl.distinct(Order.item_id, window="30d")
    taste = fl.mean(Order.look, window="30d")
    extent = fl.custom(Extent, Order.price, window="30d", default=0)
    a_day = orders_30d / 30
    growth = orders_7d / (a_day * 7)


class ItemProfile(fl.FeatureView, entity=item):
    look = fl.last(Order.look)
    sold_28d = fl.count(Order, window="28 calendar days")
    stock = fl.last(Stock.quantity, ttl="1d", default=1)
    sold_a_day = sold_28d / 28


class UserItem(fl.FeatureView, entity=(user, item)):
    orders = fl.count(Order)


class Trends(fl.FeatureView):
    popular = fl.top(Order.item_id, window="1d", n=100)
    sold_28d = fl.count(Order, window="28 calendar days")


@fl.model(
    features=[
        UserProfile,
        fl.request.hour,
        fl.request.param("device", str),
        UserProfile.growth / (fl.request.weekday + 1),
        fl.cosine(UserProfile.taste, ItemProfile.look),
        fl.same(UserProfile.category, fl.request.param("device", str)),
        UserItem.orders,
        UserItem.orders / UserProfile.orders,
        UserProfile.dearest - UserProfile.cheapest * 2,
    ],
    label=fl.outcome(Order, within="30m"),
    metric="precision@10",
    owner="ml",
)
def ranker(data: fl.Dataset) -> object:
    """Will the customer buy it?"""
    return data.x


@fl.model(
    features=[ItemProfile, Trends],
    label=fl.outcome(Order, within="1d", measure="count"),
    metric="wape",
)
def demand(data: fl.Dataset) -> object:
    return data.y


@fl.capability(
    "/api/recommend",
    model=ranker,
    candidates=[UserProfile.recent_items, Trends.popular],
    fallback=Trends.popular,
    reads=[ItemProfile.stock, ItemProfile.sold_a_day, fl.request.weekday],
)
def recommend(scored: fl.Scored, user_id: int, k: int = 10, device: str = "web") -> list[int]:
    """Products for a customer."""
    return scored.where(scored[ItemProfile.stock] > 0).top(k)


@fl.capability("/api/inventory", model=demand, fallback=ItemProfile.sold_a_day)
def inventory(scored: fl.Scored, item_id: list[int]) -> list[float]:
    return [float(score) for score in scored.scores]


loops = [
    fl.Flywheel(
        ranker, turn=fl.after(1000) | fl.after(5000, Order), gate=fl.better(confidence=0.9)
    ),
    fl.Flywheel(demand, turn=fl.after(28), gate=fl.no_worse(margin=0.05)),
]
