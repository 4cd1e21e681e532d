"""The replay: real orders, in their order, through the HTTP interface of a running platform.

At each moment every customer who is about to order is asked a list for; then the orders arrive.
Orders of the same moment do not see each other, as an interval that ends before it says. Each
midnight the day's demand is forecast and the shelves are filled. The clock stands still while a
turn is under way, so a version takes over at the same offset in every run.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as daytime
from itertools import groupby
from zoneinfo import ZoneInfo

from feilun.clock import SECOND
from feilun.demo.orders import Id, Order, OrderHistory
from feilun.demo.platform import PATIENCE, Platform
from feilun.demo.rules import PersonalRecency, Popularity, SameWeekday
from feilun.demo.stock import StockRoom
from feilun.errors import Unavailable

K = 10
FIRST_JUDGED = 4
"""A customer's orders are judged from this one on: before it there is hardly a history."""
FORECASTED = 50
"""Each midnight the demand for so many products is forecast: the best sellers of four weeks."""
BATCH = 500
LOOK_AGAIN = 0.02
"""Seconds between two looks at the turns, which want the processor for themselves."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What was recommended for one order, by whom, and what was out of stock then."""

    order: Order
    served: tuple[Id, ...]
    version: int
    popularity: tuple[Id, ...]
    recency_rule: tuple[Id, ...]
    out: frozenset[Id]

    @property
    def judged(self) -> bool:
        """Say whether it counts: the customer has a history, or the list could not be personal."""
        return self.order.number >= FIRST_JUDGED


@dataclass(frozen=True, slots=True)
class Forecasted:
    """One product's demand on one day: forecast by the platform, by the rule, and what came."""

    day: date
    product: Id
    version: int
    flywheel: float
    rule: float
    sold: int


@dataclass
class Replayed:
    """Everything that happened in a replay."""

    lists: list[Listed] = field(default_factory=list)
    forecasts: list[Forecasted] = field(default_factory=list)
    events: int = 0
    stock_events: int = 0
    times_out: int = 0
    shown_out: int = 0
    seconds: float = 0.0


class Replay:
    """One run of an order history through a platform.

    Parameters
    ----------
    platform : Platform
        A running platform on the log's clock, whose log is empty.
    history : OrderHistory
        What to replay.
    progress : callable
        Called with the number of orders done and the number of the models' turns so far.
    """

    def __init__(
        self, platform: Platform, history: OrderHistory, progress: Callable[[int, int], None]
    ) -> None:
        self._platform = platform
        self._history = history
        self._progress = progress
        self._popularity = Popularity()
        self._recency = PersonalRecency(self._popularity)
        self._weekday = SameWeekday()
        self._stock = StockRoom()
        self._bought: dict[Id, set[Id]] = defaultdict(set)
        self._last_offset = -1
        self._turns = 0
        self._result = Replayed()

    def run(self) -> Replayed:
        """Replay everything and return what happened."""
        began = time.monotonic()
        done = 0
        for day, orders in _by_day(self._history):
            forecasts = self._forecast(day)
            for _, together in groupby(orders, key=lambda order: order.time):
                moment = list(together)
                self._recommend(moment)
                self._arrive(moment)
                done += len(moment)
                self._progress(done, self._turns)
            self._close_day(day, orders, forecasts)
        self._result.times_out = self._stock.times_out
        self._result.seconds = time.monotonic() - began
        return self._result

    def _recommend(self, orders: list[Order]) -> None:
        requests = []
        for order in orders:
            query = self._as_of(order.time) | {"user_id": order.customer, "k": K}
            requests.append(("/api/recommend", query, None, order.id))
        for order, reply in zip(orders, self._platform.ask(requests), strict=True):
            out = frozenset(self._stock.out)
            served = tuple(reply["result"])
            self._result.shown_out += sum(product in out for product in served)
            self._result.lists.append(
                Listed(
                    order,
                    served,
                    reply["version"],
                    tuple(self._popularity.best(K, out)),
                    tuple(self._recency.best(order.customer, K, out)),
                    out,
                )
            )

    def _arrive(self, orders: list[Order]) -> None:
        events = []
        for order in orders:
            bought = self._bought[order.customer]
            for place, product in enumerate(order.products, start=1):
                fields = {
                    "user_id": order.customer,
                    "item_id": product,
                    "order_number": order.number,
                    "again": product in bought,
                }
                events.append(_event("order_line", f"{order.id}.{place}", order.time, fields))
            ran_out = self._stock.sell(order.products)
            events += _stock_events(order.time, [(product, 0) for product in ran_out])
            self._result.stock_events += len(ran_out)
        self._send(events)
        for order in orders:
            self._recency.learn(order.customer, order.products)
            self._popularity.learn(order.products)
            self._bought[order.customer].update(order.products)

    def _forecast(self, day: date) -> list[Forecasted]:
        best = self._weekday.sold_lately().most_common(FORECASTED)
        products = [product for product, _ in best]
        if not products:
            return []
        reply = self._platform.post(
            "/api/inventory", {"item_id": products}, **self._as_of(self._midnight(day))
        )
        return [
            Forecasted(day, product, reply["version"], value, self._weekday.forecast(product), 0)
            for product, value in zip(products, reply["result"], strict=True)
        ]

    def _close_day(self, day: date, orders: list[Order], forecasts: list[Forecasted]) -> None:
        sold: Counter[Id] = Counter()
        for order in orders:
            sold.update(order.products)
        for made in forecasts:
            self._result.forecasts.append(replace(made, sold=sold[made.product]))
        self._weekday.close_day(sold)
        filled = self._stock.fill()
        # Just before midnight, so that a read as of midnight sees the filled shelves.
        self._send(_stock_events(self._midnight(day + timedelta(days=1)) - 1, filled))
        self._result.stock_events += len(filled)
        self._await_turns()

    def _send(self, events: list[dict[str, object]]) -> None:
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            reply = self._platform.post("/api/events", {"events": batch, "source": "shop"})
            refused = [e for e in reply["events"] if e["status"] not in ("accepted", "duplicate")]
            if refused:
                raise Unavailable(f"The collector refused {refused[0]}.")
            self._last_offset = max(self._last_offset, *(e["offset"] for e in reply["events"]))
        self._result.events += len(events)

    def _await_turns(self) -> None:
        """Wait until each loop has looked at everything so far and its turn, if any, has ended."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            loops = self._platform.get("/status")["flywheels"]
            self._turns = sum(loop["turns"] for loop in loops.values())
            if all(loop["examined_offset"] > self._last_offset for loop in loops.values()):
                return
            if any(loop["running_turn"] for loop in loops.values()):
                deadline = time.monotonic() + 10 * PATIENCE
            time.sleep(LOOK_AGAIN)
        raise Unavailable("The flywheel has stopped looking at the log.", "Look into .feilun/run.")

    def _as_of(self, moment: int) -> dict[str, object]:
        query: dict[str, object] = {"as_of": moment}
        if self._last_offset >= 0:
            query["min_offset"] = self._last_offset
        return query

    def _midnight(self, day: date) -> int:
        zone = ZoneInfo(self._history.timezone)
        return int(datetime.combine(day, daytime(), zone).timestamp()) * SECOND


def _by_day(history: OrderHistory) -> Iterator[tuple[date, list[Order]]]:
    """Yield every local day from the first order's to the last one's, empty ones included."""
    zone = ZoneInfo(history.timezone)

    def local_day(order: Order) -> date:
        return datetime.fromtimestamp(order.time // SECOND, zone).date()

    expected: date | None = None
    for day, orders in groupby(history.orders, key=local_day):
        while expected is not None and expected < day:
            yield expected, []
            expected += timedelta(days=1)
        yield day, list(orders)
        expected = day + timedelta(days=1)


def _event(
    name: str, event_id: str, moment: int, fields: Mapping[str, object]
) -> dict[str, object]:
    return {"event": name, "id": event_id, "time": moment, "fields": fields}


def _stock_events(moment: int, levels: list[tuple[Id, int]]) -> list[dict[str, object]]:
    events = []
    for product, quantity in levels:
        name = f"stock.{product}.{moment}"
        fields = {"item_id": product, "quantity": quantity}
        events.append(_event("stock", name, moment, fields))
    return events
