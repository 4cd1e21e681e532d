"""Three views with two windows each, for ``stream_fold``, ``freshness_p99_ms`` and the rest."""

import feilun as fl

settings = fl.Settings(timezone="UTC")

user = fl.Entity("user_id", int)
item = fl.Entity("item_id", int)
category = fl.Entity("category", int)


class Order(fl.Event):
    """Something was bought."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]
    category: fl.Field[int]
    amount: fl.Field[int]


class UserProfile(fl.FeatureView, entity=user):
    """How a user buys."""

    orders_1h = fl.count(Order, window="1h")
    spent_7d = fl.sum(Order.amount, window="7d")


class ItemProfile(fl.FeatureView, entity=item):
    """How an item sells."""

    orders_1h = fl.count(Order, window="1h")
    spent_7d = fl.sum(Order.amount, window="7d")


class UserCategory(fl.FeatureView, entity=(user, category)):
    """What a user buys of a category."""

    orders_1h = fl.count(Order, window="1h")
    spent_7d = fl.sum(Order.amount, window="7d")
