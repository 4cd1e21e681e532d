"""Capabilities that are made of several models, and of what other capabilities say."""

import numpy as np

import feilun as fl
from feilun.errors import InputError

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)


class Order(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    place: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    orders = fl.count(Order, window="30d")
    recent_items = fl.last(Order.item_id, n=20)
    wary = fl.count(Order, where=Order.place == 13)


class ItemProfile(fl.FeatureView, entity=item):
    heat = fl.count(Order, window="7d")


class UserItem(fl.FeatureView, entity=(user, item)):
    bought = fl.count(Order, window="30d")


label = fl.outcome(Order, within="1d")


@fl.model(features=[UserProfile.orders, ItemProfile.heat, UserItem.bought], label=label,
          metric="auc")  # fmt: skip
def ranker(data): ...


@fl.model(features=[ItemProfile.heat, UserItem.bought], label=label, metric="auc")
def margin(data): ...


@fl.model(features=[ItemProfile.heat], label=label, metric="auc")
def demand(data): ...


CANDIDATES = {"candidates": [UserProfile.recent_items], "fallback": UserProfile.recent_items}


@fl.capability("/api/inventory", model=demand, fallback=ItemProfile.heat)
def inventory(scored: fl.Scored, item_id: list[int], factor: float = 1.0) -> list[float]:
    return (scored.scores * factor).tolist()


@fl.capability("/api/stock", model=demand)
def stock(scored: fl.Scored, item_id: list[int]) -> list[float]:
    return scored.scores.tolist()


@fl.capability("/api/habit", model=ranker, **CANDIDATES, opt_out=UserProfile.wary,
               explore=fl.epsilon(1.0, top=3))  # fmt: skip
def habit(scored: fl.Scored, user_id: int, k: int = 2) -> list[int]:
    return scored.top(k)


@fl.capability("/api/faulty", model=demand, fallback=ItemProfile.heat)
def faulty(scored: fl.Scored, item_id: list[int], k: int = 10) -> list[float]:
    item_id.clear()  # what it is given is its own
    if k == 0:
        raise InputError("No rows.", "Ask for more.")
    raise RuntimeError("secret detail")


@fl.capability("/api/weigh", model=ranker, **CANDIDATES, also=[margin], asks=[inventory])
def weigh(scored: fl.Scored, user_id: int, factor: float = 1.0) -> list[list[float]]:
    """Say of each item what everybody says, best first."""
    rows = zip(scored.items, scored.scores, scored.by(margin), scored.reply(inventory), strict=True)
    return sorted(([*map(float, row)] for row in rows), key=lambda row: -row[1])


@fl.capability("/api/lenient", model=ranker, **CANDIDATES, also=[margin], asks=[stock, faulty])
def lenient(scored: fl.Scored, user_id: int, k: int = 10) -> list[object]:
    return [
        scored.by(margin, default=-1.0).tolist(),
        scored.reply(stock, default=None),
        scored.reply(faulty, default="nothing"),
    ]


@fl.capability("/api/strict", model=ranker, **CANDIDATES, asks=[stock])
def strict(scored: fl.Scored, user_id: int) -> list[float]:
    return scored.reply(stock)


@fl.capability("/api/dear", model=ranker, **CANDIDATES, also=[margin])
def dear(scored: fl.Scored, user_id: int) -> list[float]:
    some = scored.where(scored.scores > 20)
    return some.by(margin).tolist()


@fl.capability("/api/picks", model=ranker, **CANDIDATES, also=[margin], asks=[inventory],
               reads=[ItemProfile.heat])  # fmt: skip
def picks(scored: fl.Scored, user_id: int, factor: float, k: int = 10) -> list[int]:
    """The dearest first; nothing of which more is expected to be sold than there is."""
    left = scored[ItemProfile.heat] - np.array(scored.reply(inventory))
    return scored.rescored(-scored.by(margin)).where(left >= 0).top(k)


@fl.capability("/api/page", model=ranker, **CANDIDATES, asks=[weigh, habit])
def page(scored: fl.Scored, user_id: int, k: int = 2) -> dict[str, list[list[float]] | list[int]]:
    return {"weigh": scored.reply(weigh), "habit": scored.reply(habit)}
