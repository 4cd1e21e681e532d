"""Twenty window features of a user, for ``training_set``."""

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
    """How a user buys: five statistics over four windows."""

    count_1h = fl.count(Order, window="1h")
    sum_1h = fl.sum(Order.amount, window="1h")
    mean_1h = fl.mean(Order.amount, window="1h")
    min_1h = fl.min(Order.amount, window="1h")
    max_1h = fl.max(Order.amount, window="1h")
    count_1d = fl.count(Order, window="1d")
    sum_1d = fl.sum(Order.amount, window="1d")
    mean_1d = fl.mean(Order.amount, window="1d")
    min_1d = fl.min(Order.amount, window="1d")
    max_1d = fl.max(Order.amount, window="1d")
    count_7d = fl.count(Order, window="7d")
    sum_7d = fl.sum(Order.amount, window="7d")
    mean_7d = fl.mean(Order.amount, window="7d")
    min_7d = fl.min(Order.amount, window="7d")
    max_7d = fl.max(Order.amount, window="7d")
    count_30d = fl.count(Order, window="30d")
    sum_30d = fl.sum(Order.amount, window="30d")
    mean_30d = fl.mean(Order.amount, window="30d")
    min_30d = fl.min(Order.amount, window="30d")
    max_30d = fl.max(Order.amount, window="30d")
