"""Capabilities that explore by Thompson sampling."""

import numpy as np

import feilun as fl

user, item = fl.Entity("user_id", int), fl.Entity("item_id", int)


class Order(fl.Event):
    user_id: fl.Field[int]
    item_id: fl.Field[int]
    place: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    recent_items = fl.last(Order.item_id, n=20)


class ItemProfile(fl.FeatureView, entity=item):
    heat = fl.count(Order, window="7d")
    seen = fl.sum(Order.place, window="7d")
    place = fl.last(Order.place)
    once = fl.last(Order.place, where=Order.place == 50)
    never = fl.last(Order.place, where=Order.place == 1000)


class UserItem(fl.FeatureView, entity=(user, item)):
    bought = fl.count(Order, window="30d")
    seen = fl.sum(Order.place, window="30d")


@fl.model(features=[ItemProfile.heat], label=fl.outcome(Order, within="1d"), metric="auc")
def ranker(data): ...


FROM = {
    "model": ranker,
    "candidates": [UserProfile.recent_items],
    "fallback": UserProfile.recent_items,
}
SEEN = fl.thompson(successes=ItemProfile.heat, trials=ItemProfile.seen, top=4)
NEVER = fl.thompson(successes=ItemProfile.once, trials=ItemProfile.never, top=5)
HALVES = fl.thompson(successes=ItemProfile.heat / 2, trials=ItemProfile.place * 10, top=5)
HABITS = fl.thompson(successes=UserItem.bought, trials=UserItem.seen, top=5, prior=(2, 18))


@fl.capability("/api/sampled", **FROM, explore=SEEN)
def sampled(scored: fl.Scored, user_id: int, k: int = 10, odd: bool = False) -> list[int]:
    if odd:
        scored = scored.where(np.array([item % 2 == 1 for item in scored.items]))
    return scored.top(k)


@fl.capability("/api/habits", **FROM, explore=HABITS)
def habits(scored: fl.Scored, user_id: int, item_id: list[int] = []) -> list[int]:  # noqa: B006
    return scored.top(10)


@fl.capability("/api/unknown", **FROM, explore=NEVER)
def unknown(scored: fl.Scored, user_id: int) -> list[int]:
    return scored.top(10)


@fl.capability("/api/computed", **FROM, explore=HALVES)
def computed(scored: fl.Scored, user_id: int) -> list[int]:
    return scored.top(10)
