"""What mypy and pyright, both strict, must accept, with the types that they must find."""

from __future__ import annotations

from typing import Any, assert_type

import feilun as fl

settings = fl.Settings(timezone="Asia/Shanghai", owner="shop")

UserId = int
user, item = fl.Entity("user_id", UserId), fl.Entity("item_id", int, description="A product.")


class Order(fl.Event, version=2, owner="shop", description="One product in one order."):
    user_id: fl.Field[UserId]
    item_id: fl.Field[int]
    price: fl.Field[float]
    category: fl.Field[str]
    again: fl.Field[bool]
    points: fl.Field[int | None]
    coupon: fl.Field[str | None] = fl.Field(default=None)
    embedding: fl.Field[fl.Vector | None] = fl.Field(default=None, dim=3)
    campaign: fl.Field[str | None] = fl.Field(default=None, deprecated=True)


class Picture(fl.Event):
    item_id: fl.Field[int]
    look: fl.Field[fl.Vector] = fl.Field(dim=2)


assert_type(Order.user_id, fl.Field[int])
assert_type(Order.coupon, fl.Field[str | None])

order = Order(user_id=1, item_id=2, price=3, category="tea", again=True, points=None)
Order(user_id=1, item_id=2, price=3.5, category="tea", again=True, points=4, coupon="NEW")
assert_type(order.user_id, int)
assert_type(order.price, float)
assert_type(order.coupon, str | None)
assert_type(order.to_fields(), dict[str, Any])
assert_type(Picture(item_id=1, look=[0.5, 1]).look, fl.Vector)

assert_type(Order.category == "tea", fl.Condition)
assert_type(Order.coupon != "NEW", fl.Condition)
assert_type(10 < Order.price, fl.Condition)  # noqa: SIM300
dear = (Order.price > 10) & Order.category.is_in(["tea", "milk"]) | ~(Order.points <= 3)
assert_type(dear, fl.Condition)


class Extent(fl.Aggregation):
    columns = {"low": "<f8", "high": "<f8"}  # noqa: RUF012
    dtype = "float"


class UserProfile(fl.FeatureView, entity=user, owner="growth", description="A customer."):
    orders = fl.count(Order, window="7d", hop="1h", description="Orders of a week.")
    spent = fl.sum(Order.price, window="30d")
    points = fl.sum(Order.points)
    again = fl.mean(Order.again, default=0.0)
    price = fl.mean(Order.price, default=0)
    cheapest = fl.min(Order.price)
    most_points = fl.max(Order.points, default=0)
    first_coupon = fl.first(Order.coupon, default="none")
    category = fl.top(Order.category, window="30d", default="tea")
    categories = fl.top(Order.category, window="30d", n=3)
    recent_items = fl.last(Order.item_id, n=50)
    last_item = fl.last(Order.item_id, ttl="1d", default=0)
    last_again = fl.last(Order.again)
    since_order = fl.since_last(Order)
    fondness = fl.decayed(Order, half_life="30d", where=Order.again == True)  # noqa: E712
    decayed_spent = fl.decayed(Order.price, half_life="30d")
    dear = fl.count(Order, where=dear)
    variance = fl.var(Order.price, where=Order.category == "tea")
    spread = fl.std(Order.points, window="7d", default=0)
    median = fl.quantile(Order.price, 0.5)
    different = fl.distinct(Order.coupon, window="7d")
    latest_embedding = fl.last(Order.embedding, ttl="30d")
    mean_embedding = fl.mean(Order.embedding, window="30d")
    extent = fl.custom(Extent, Order.price, window="7d", default=0)
    extent_of_times = fl.custom(Extent, Order)
    a_piece = spent / orders


assert_type(UserProfile.orders, fl.Feature[int])
assert_type(UserProfile.spent, fl.Feature[float])
assert_type(UserProfile.points, fl.Feature[int])
assert_type(UserProfile.again, fl.Feature[float])
assert_type(UserProfile.cheapest, fl.Feature[float])
assert_type(UserProfile.most_points, fl.Feature[int])
assert_type(UserProfile.first_coupon, fl.Feature[str])
assert_type(UserProfile.category, fl.Feature[str])
assert_type(UserProfile.categories, fl.Feature[list[str]])
assert_type(UserProfile.recent_items, fl.Feature[list[int]])
assert_type(UserProfile.last_item, fl.Feature[int])
assert_type(UserProfile.last_again, fl.Feature[bool])
assert_type(UserProfile.since_order, fl.Feature[float])
assert_type(UserProfile.fondness, fl.Feature[float])
assert_type(UserProfile.orders.address, str)
assert_type(UserProfile.decayed_spent, fl.Feature[float])
assert_type(UserProfile.variance, fl.Feature[float])
assert_type(UserProfile.spread, fl.Feature[float])
assert_type(UserProfile.median, fl.Feature[float])
assert_type(UserProfile.different, fl.Feature[int])
assert_type(UserProfile.latest_embedding, fl.Feature[tuple[float, ...]])
assert_type(UserProfile.mean_embedding, fl.Feature[tuple[float, ...]])
assert_type(UserProfile.extent, fl.Feature[float])
assert_type(UserProfile.a_piece, fl.Expression)
assert_type(fl.request.hour, fl.Feature[int])
assert_type(fl.cosine(UserProfile.mean_embedding, UserProfile.latest_embedding), fl.Expression)
assert_type(fl.same(UserProfile.category, UserProfile.first_coupon), fl.Expression)
assert_type(fl.request.param("device", str), fl.Feature[str])


class Stock(
    fl.Table, key=item, source="warehouse.stock", time="updated_at", every="15m", owner="shop"
):
    item_id: fl.Field[int]
    quantity: fl.Field[int]
    note: fl.Field[str | None] = fl.Field(default=None)


class Price(fl.Table, key=(item, user), source="lake.a.b", time="t", columns={"item_id": "商品"}):
    item_id: fl.Field[int]
    user_id: fl.Field[int]


assert_type(Stock.quantity, fl.Field[int])
assert_type(Stock(item_id=1, quantity=2).quantity, int)


class ItemProfile(fl.FeatureView, entity=item):
    stock = fl.last(Stock.quantity, ttl="1d", default=0)
    note = fl.first(Stock.note)
    least = fl.min(Stock.quantity)
    changes = fl.count(Stock)


assert_type(ItemProfile.stock, fl.Feature[int])
assert_type(ItemProfile.note, fl.Feature[str])


class UserItem(fl.FeatureView, entity=(user, item)):
    orders = fl.count(Order)


class Trends(fl.FeatureView):
    popular = fl.top(Order.item_id, window="today", n=100)


assert_type(UserProfile.orders - UserItem.orders, fl.Expression)
assert_type(1 - UserProfile.spent / (UserProfile.orders + 1), fl.Expression)


@fl.model(
    features=[
        UserProfile, UserItem.orders, UserProfile.category, UserProfile.spent / 2,
        UserProfile.a_piece, UserProfile.a_piece * fl.request.hour, UserProfile.mean_embedding,
        fl.request.weekday, fl.request.param("device", str),
    ],
    label=fl.outcome(Order, within="30m", measure="happened"),
    metric="precision@10",
)  # fmt: skip
def ranker(data: fl.Dataset) -> object:
    return data.x[data.y > 0]


@fl.capability(
    "/api/recommend",
    model=ranker,
    candidates=[UserProfile.recent_items, Trends.popular],
    fallback=Trends.popular,
    reads=[UserProfile.categories, UserProfile.spent, UserProfile.a_piece, fl.request.hour],
    item=item,
)
def recommend(scored: fl.Scored, user_id: int, k: int = 10, device: str = "web") -> list[int]:
    affordable = scored.where(scored[UserProfile.spent] < 100)
    assert_type(affordable, fl.Scored)
    return affordable.top(k)


@fl.model(features=[ItemProfile], label=fl.outcome(Order, within="1d"), metric="auc")
def worth(data: fl.Dataset) -> object:
    return data.x


@fl.capability("/api/inventory", model=worth)
def inventory(scored: fl.Scored, item_id: list[int]) -> list[float]:
    return [float(score) for score in scored.scores]


@fl.capability(
    "/api/picks",
    model=ranker,
    candidates=[UserProfile.recent_items],
    also=[worth],
    asks=[inventory, recommend],
)
def picks(scored: fl.Scored, user_id: int, device: str = "web") -> list[int]:
    assert_type(scored.reply(inventory), list[float])
    assert_type(scored.reply(inventory, default=None), list[float] | None)
    assert_type(scored.reply(recommend), list[int])
    weighed = scored.rescored(scored.scores * scored.by(worth, default=1))
    assert_type(weighed, fl.Scored)
    return weighed.top(3)


def call(scored: fl.Scored) -> None:
    assert_type(recommend(scored, user_id=1), list[int])
    assert_type(recommend(scored, 1, k=3), list[int])


loops = [
    fl.Flywheel(ranker, turn=fl.after(1000), gate=fl.better()),
    fl.Flywheel(
        ranker, turn=fl.after(1000) | fl.after(9, Order), gate=fl.no_worse(margin=0.01)
    ),
]  # fmt: skip
