"""A shop: what it sees, what it computes, what it predicts, and how it learns.

Everything else is derived from this file: the APIs and their documentation, the checks on events,
the training sets, the turns. `feilun check` says whether it is right.
"""

from typing import Any

import feilun as fl

UserId = int
ItemId = int

settings = fl.Settings(timezone="Asia/Shanghai", owner="shop")

user = fl.Entity("user_id", UserId, description="A customer.")
item = fl.Entity("item_id", ItemId, description="A product.")


class OrderLine(fl.Event):
    """One product in one order."""

    user_id: fl.Field[UserId]
    item_id: fl.Field[ItemId]
    order_number: fl.Field[int]  # the customer's first order is 1
    again: fl.Field[bool]  # bought by this customer before


class Stock(fl.Event):
    """How much of a product is on the shelf."""

    item_id: fl.Field[ItemId]
    quantity: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    """How a customer shops."""

    orders = fl.max(OrderLine.order_number)
    since_order = fl.since_last(OrderLine)
    share_again = fl.mean(OrderLine.again)
    top_items = fl.top(OrderLine.item_id, n=100)
    recent_items = fl.last(OrderLine.item_id, n=50)


class ItemProfile(fl.FeatureView, entity=item):
    """How a product sells: shared by both models."""

    lines_7d = fl.count(OrderLine, window="7 calendar days")
    lines_8d = fl.count(OrderLine, window="8 calendar days")
    lines_28d = fl.count(OrderLine, window="28 calendar days")
    share_again = fl.mean(OrderLine.again)
    stock = fl.last(Stock.quantity, default=1)  # not counted yet: on the shelf


class UserItem(fl.FeatureView, entity=(user, item)):
    """What a customer and a product have had with each other."""

    lines = fl.count(OrderLine)
    lines_30d = fl.count(OrderLine, window="30d")
    lines_90d = fl.count(OrderLine, window="90d")
    first_order = fl.min(OrderLine.order_number)
    last_order = fl.max(OrderLine.order_number)
    since_line = fl.since_last(OrderLine)


class Trends(fl.FeatureView):
    """The shop as a whole."""

    popular = fl.top(OrderLine.item_id, window="7d", n=10)
    lines_7d = fl.count(OrderLine, window="7 calendar days")
    lines_28d = fl.count(OrderLine, window="28 calendar days")


@fl.model(
    features=[
        UserItem.lines, UserItem.lines_30d, UserItem.lines_90d, UserItem.since_line,
        UserProfile.orders - UserItem.last_order,  # orders since it was in one
        UserProfile.orders - UserItem.first_order,
        UserProfile.orders, UserProfile.since_order, UserProfile.share_again,
        ItemProfile.lines_28d, ItemProfile.share_again,
    ],
    label=fl.outcome(OrderLine, within="30m"),
    metric="precision@10",
)  # fmt: skip
def ranker(data: fl.Dataset) -> Any:
    """How likely is a product in the customer's next order?"""
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(
        n_estimators=100, learning_rate=0.06, num_leaves=31, min_child_samples=100, max_bin=63,
        n_jobs=2, random_state=7, deterministic=True, force_row_wise=True, verbose=-1,
    )  # fmt: skip
    return model.fit(data.x, data.y)


@fl.model(
    features=[
        ItemProfile.lines_28d * Trends.lines_7d / Trends.lines_28d,  # with the shop's trend
        ItemProfile.lines_7d,
        ItemProfile.lines_8d - ItemProfile.lines_7d,  # the same day a week ago
        ItemProfile.share_again,
    ],
    label=fl.outcome(OrderLine, within="1d", measure="count"),
    metric="wape",
)  # fmt: skip
def demand(data: fl.Dataset) -> Any:
    """How many of a product will be sold in the next day?"""
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(
        n_estimators=100, learning_rate=0.05, num_leaves=7, min_child_samples=100,
        n_jobs=2, random_state=7, deterministic=True, force_row_wise=True, verbose=-1,
    )  # fmt: skip
    return model.fit(data.x, data.y)


@fl.capability(
    "/api/recommend",
    model=ranker,
    candidates=[UserProfile.top_items, UserProfile.recent_items, Trends.popular],
    fallback=UserProfile.top_items,
    reads=[ItemProfile.stock],
)
def recommend(scored: fl.Scored, user_id: UserId, k: int = 10) -> list[ItemId]:
    """Products for a customer's next order, best first; never what has run out."""
    return scored.where(scored[ItemProfile.stock] > 0).top(k)


@fl.capability("/api/inventory", model=demand, fallback=ItemProfile.lines_28d)
def inventory(scored: fl.Scored, item_id: list[ItemId]) -> list[float]:
    """Expected sales of each product in the next day, in the order asked for."""
    days = 28 if scored.fallback else 1  # until there is a model: the mean of four weeks
    return [max(0.0, float(score)) / days for score in scored.scores]


recommend_loop = fl.Flywheel(
    ranker, turn=fl.after(1500), gate=fl.no_worse(margin=0.01, confidence=0.95)
)
demand_loop = fl.Flywheel(demand, turn=fl.after(14), gate=fl.no_worse(margin=0.05, confidence=0.95))
