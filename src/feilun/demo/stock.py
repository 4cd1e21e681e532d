"""A stock room made up from the real orders, and labelled so: no order file has one.

Every evening the shelf of each product that was sold that day is filled to one and a half times
its best day so far, and to three at least. An order takes one of each of its products; a product at
zero is out until the evening. Only the past is used, so nothing here looks ahead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from feilun.demo.orders import Id

LEAST = 3
RESERVE = 1.5


class StockRoom:
    """Shelves by product.

    Examples
    --------
    >>> room = StockRoom()
    >>> room.sell(["tea", "milk"])
    []
    >>> room.fill()
    [('milk', 3), ('tea', 3)]
    >>> room.sell(["tea"]), room.sell(["tea"]), room.sell(["tea"])
    ([], [], ['tea'])
    >>> room.is_out("tea"), room.fill(), room.is_out("tea")
    (True, [('tea', 5)], False)
    """

    def __init__(self) -> None:
        self._shelf: dict[Id, int] = {}
        self._best_day: Counter[Id] = Counter()
        self._today: Counter[Id] = Counter()
        self.out: set[Id] = set()
        self.times_out = 0

    def sell(self, products: Iterable[Id]) -> list[Id]:
        """Take one of each; return those that ran out by it."""
        ran_out = []
        for product in products:
            self._today[product] += 1
            if product not in self._shelf or product in self.out:
                continue
            self._shelf[product] -= 1
            if not self._shelf[product]:
                self.out.add(product)
                self.times_out += 1
                ran_out.append(product)
        return ran_out

    def fill(self) -> list[tuple[Id, int]]:
        """Close the day: fill what was sold, and return (product, quantity) of those shelves."""
        filled = []
        for product in sorted(self._today, key=str):
            self._best_day[product] = max(self._best_day[product], self._today[product])
            self._shelf[product] = max(LEAST, math.ceil(RESERVE * self._best_day[product]))
            filled.append((product, self._shelf[product]))
        self.out.clear()
        self._today.clear()
        return filled

    def is_out(self, product: Id) -> bool:
        """Say whether the product has run out."""
        return product in self.out
