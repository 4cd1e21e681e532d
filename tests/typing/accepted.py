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


assert_type(Order.user_id, fl.Field[int])
assert_type(Order.coupon, fl.Field[str | None])

order = Order(user_id=1, item_id=2, price=3, category="tea", again=True, points=None)
Order(user_id=1, item_id=2, price=3.5, category="tea", again=True, points=4, coupon="NEW")
assert_type(order.user_id, int)
assert_type(order.price, float)
assert_type(order.coupon, str | None)
assert_type(order.to_fields(), dict[str, Any])


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
    fondness = fl.decayed(Order, half_life="30d")


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


class UserItem(fl.FeatureView, entity=(user, item)):
    orders = fl.count(Order)


class Trends(fl.FeatureView):
    popular = fl.top(Order.item_id, window="today", n=100)


assert_type(UserProfile.orders - UserItem.orders, fl.Expression)
assert_type(1 - UserProfile.spent / (UserProfile.orders + 1), fl.Expression)


@fl.model(
    features=[UserProfile, UserItem.orders, UserProfile.category, UserProfile.spent / 2],
    label=fl.outcome(Order, within="30m", measure="happened"),
    metric="precision@10",
)
def ranker(data: fl.Dataset) -> object:
    return data.x[data.y > 0]


@fl.capability(
    "/api/recommend",
    model=ranker,
    candidates=[UserProfile.recent_items, Trends.popular],
    fallback=Trends.popular,
    reads=[UserProfile.categories, UserProfile.spent],
    item=item,
)
def recommend(scored: fl.Scored, user_id: int, k: int = 10) -> list[int]:
    affordable = scored.where(scored[UserProfile.spent] < 100)
    assert_type(affordable, fl.Scored)
    return affordable.top(k)


def call(scored: fl.Scored) -> None:
    assert_type(recommend(scored, user_id=1), list[int])
    assert_type(recommend(scored, 1, k=3), list[int])


loops = [
    fl.Flywheel(ranker, turn=fl.after(1000), gate=fl.better()),
    fl.Flywheel(
        ranker, turn=fl.after(1000) | fl.after(9, Order), gate=fl.no_worse(margin=0.01)
    ),
]  # fmt: skip
