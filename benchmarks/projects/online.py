"""Ten window features of one view, for ``online_1x10`` and ``online_500x10``."""

import feilun as fl

settings = fl.Settings(timezone="UTC")

user = fl.Entity("user_id", int)


class Order(fl.Event):
    """Something was bought."""

    user_id: fl.Field[int]
    item_id: fl.Field[int]
    category: fl.Field[int]
    amount: fl.Field[int]


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
