"""The rules that models are judged beside. Each sees an order only after it was predicted."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable

from feilun.demo.orders import Id

DECAY = 0.9
WEEKS = 4
LEADERS = 100
"""More than any list holds and may be out of stock."""


class Popularity:
    """The products that most order lines held so far.

    Examples
    --------
    >>> rule = Popularity()
    >>> rule.learn(["tea", "milk"]), rule.learn(["milk"])
    (None, None)
    >>> rule.best(1, out=())
    ['milk']
    """

    def __init__(self) -> None:
        self.counts: Counter[Id] = Counter()
        self._leaders: list[Id] = []
        self._risen: dict[Id, None] = {}

    def learn(self, products: Iterable[Id]) -> None:
        """Count an order."""
        for product in products:
            self.counts[product] += 1
            self._risen[product] = None

    def best(self, k: int, out: Container[Id]) -> list[Id]:
        """Return the ``k`` most frequent products that are in stock; of equal ones the older."""
        if self._risen:
            # Counts only grow, so whoever leads now led before or has risen since.
            risen = self._risen.keys() - set(self._leaders)
            found = self._leaders + [product for product in self._risen if product in risen]
            found.sort(key=self.counts.__getitem__, reverse=True)
            self._leaders, self._risen = found[:LEADERS], {}
        return [product for product in self._leaders if product not in out][:k]


class PersonalRecency:
    """What the customer bought, each purchase weighing 0.9 for every order since.

    Filled up with the popular where a customer has bought less than a list holds.
    """

    def __init__(self, popularity: Popularity) -> None:
        self._popularity = popularity
        self._weights: dict[Id, dict[Id, float]] = defaultdict(dict)

    def learn(self, customer: Id, products: Iterable[Id]) -> None:
        """Let the older weights decay by one order and add this one."""
        weights = self._weights[customer]
        for product in weights:
            weights[product] *= DECAY
        for product in products:
            weights[product] = weights.get(product, 0.0) + 1.0

    def best(self, customer: Id, k: int, out: Container[Id]) -> list[Id]:
        """Return the ``k`` heaviest products in stock; of equal ones the more popular first."""
        weights = self._weights[customer]
        popular = self._popularity.counts
        ranked = sorted(weights, key=lambda product: (-weights[product], -popular[product]))
        mine = [product for product in ranked if product not in out][:k]
        fill = (p for p in self._popularity.best(k + len(mine), out) if p not in mine)
        return mine + [product for product, _ in zip(fill, range(k - len(mine)), strict=False)]


class SameWeekday:
    """The mean of a product's sales on the same day of the last four weeks.

    Examples
    --------
    >>> rule = SameWeekday()
    >>> for day in range(7):
    ...     rule.close_day({"tea": 4} if day == 0 else {})
    >>> rule.forecast("tea")
    1.0
    """

    def __init__(self) -> None:
        self._days: deque[Counter[Id]] = deque(maxlen=7 * WEEKS)

    def close_day(self, sold: dict[Id, int] | Counter[Id]) -> None:
        """Add a day's sales."""
        self._days.append(Counter(sold))

    def forecast(self, product: Id) -> float:
        """Return the expected sales of the day that begins."""
        days = list(self._days)
        return sum(days[-7 * week][product] for week in range(1, WEEKS + 1)
                   if 7 * week <= len(days)) / WEEKS  # fmt: skip

    def sold_lately(self) -> Counter[Id]:
        """Return each product's sales of the last four weeks."""
        total: Counter[Id] = Counter()
        for day in self._days:
            total.update(day)
        return total
