"""The rules that models are judged beside."""

from collections import Counter

from feilun.demo.rules import PersonalRecency, Popularity, SameWeekday


def test_the_personal_rule_weighs_recent_orders_more_and_fills_up_with_the_popular():
    popularity = Popularity()
    rule = PersonalRecency(popularity)
    for products in (["tea", "rice"], ["rice"], ["milk"]):
        rule.learn("ann", products)
        popularity.learn(products)
    popularity.learn(["salt", "salt"])
    # rice 0.81 + 0.9, milk 1.0, tea 0.81; then what the shop sells, by frequency.
    assert rule.best("ann", 4, out=()) == ["rice", "milk", "tea", "salt"]
    assert rule.best("ann", 2, out={"rice"}) == ["milk", "tea"]
    assert rule.best("bob", 2, out=()) == ["rice", "salt"]


def test_equal_weights_are_ordered_by_popularity():
    popularity = Popularity()
    rule = PersonalRecency(popularity)
    rule.learn("ann", ["a", "b"])
    popularity.learn(["b"])
    assert rule.best("ann", 2, out=()) == ["b", "a"]


def test_the_weekday_rule_forgets_after_four_weeks():
    rule = SameWeekday()
    rule.close_day(Counter(tea=40))
    for _ in range(27):
        rule.close_day(Counter())
    assert rule.forecast("tea") == 10.0
    assert rule.sold_lately()["tea"] == 40
    rule.close_day(Counter())
    assert rule.forecast("tea") == 0.0
