"""Ten columns a row, from the request or from the store, for the benchmarks of the gateway."""

from typing import Any

import feilun as fl

settings = fl.Settings(timezone="UTC")

user = fl.Entity("user_id", int)
call = fl.Entity("call_id", int)


class Order(fl.Event):
    """Something was bought."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]
    category: fl.Field[int]
    amount: fl.Field[int]


class Complaint(fl.Event):
    """Something about a call was wrong."""

    call_id: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    """How a user buys."""

    orders_1h = fl.count(Order, window="1h")
    orders_1d = fl.count(Order, window="1d")
    orders_7d = fl.count(Order, window="7d")
    orders_30d = fl.count(Order, window="30d")
    spent_1d = fl.sum(Order.amount, window="1d")
    spent_7d = fl.sum(Order.amount, window="7d")
    spent_30d = fl.sum(Order.amount, window="30d")
    mean_7d = fl.mean(Order.amount, window="7d")
    least_30d = fl.min(Order.amount, window="30d")
    most_30d = fl.max(Order.amount, window="30d")


def _train(data: fl.Dataset) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier().fit(data.x, data.y)


@fl.model(
    features=[fl.request.param(f"x{place}", float) for place in range(10)],
    label=fl.outcome(Complaint, within="1d"),
    metric="auc",
)
def row_model(data: fl.Dataset) -> Any:
    """Judge a call by what it says itself."""
    return _train(data)


@fl.model(features=[UserProfile], label=fl.outcome(Order, within="1d"), metric="auc")
def user_model(data: fl.Dataset) -> Any:
    """Judge a user by what they bought."""
    return _train(data)


@fl.capability("/api/score", model=row_model, item=call)
def score(
    scored: fl.Scored,
    call_id: int,
    x0: float,
    x1: float,
    x2: float,
    x3: float,
    x4: float,
    x5: float,
    x6: float,
    x7: float,
    x8: float,
    x9: float,
) -> float:
    """Score one row that the request brings."""
    return float(scored.scores[0])


@fl.capability("/api/lookup", model=user_model)
def lookup(scored: fl.Scored, user_id: int) -> float:
    """Score one user."""
    return float(scored.scores[0])


@fl.capability("/api/rank", model=user_model)
def rank(scored: fl.Scored, user_id: list[int], k: int = 10) -> list[int]:
    """Find the best users of those named."""
    return scored.top(k)
