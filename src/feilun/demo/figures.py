"""What a replay says in numbers. All of it is foresight: nobody saw these lists.

A list is judged by the order that came after it: *hit* is whether it held anything of the order,
*precision* the share of its ten places that did, *recall* the share of the order that it held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.clock import SECOND
from feilun.demo.orders import Id, OrderHistory
from feilun.demo.replay import Forecasted, K, Listed, Replayed

CONTENDERS = ("popularity", "recency_rule", "frozen", "flywheel")
BINS = 24
RESAMPLES = 2_000
SEED = 7

Floats = npt.NDArray[np.float64]


class Interval(msgspec.Struct, frozen=True):
    """A difference with its 95% confidence interval."""

    estimate: float
    low: float
    high: float


class ListFigures(msgspec.Struct, frozen=True):
    """Means over lists, each between 0 and 1."""

    hit: float
    precision: float
    recall: float


class ForecastFigures(msgspec.Struct, frozen=True):
    """Weighted absolute percentage errors: the sum of the misses over the sum of the sales."""

    flywheel: float
    rule: float


class TurnFigures(msgspec.Struct, frozen=True):
    """One turn, as its record tells it."""

    model: str
    turn: int
    trigger: str
    cut: int
    rows: int
    decision: str
    reason: str
    version: int | None
    gate: Interval | None
    effect: Interval | None
    seconds: float


class Line(msgspec.Struct, frozen=True):
    """One line of a chart; a value a bin, None where there is nothing to say."""

    name: str
    values: list[float | None]


class Figures(msgspec.Struct, frozen=True):
    """Everything that the report shows."""

    source: str
    orders: int
    customers: int
    products: int
    lines: int
    first_day: str
    last_day: str
    left_out: dict[str, int]
    judged: int
    later_half: dict[str, ListFigures]
    flywheel_over_rule: Interval
    flywheel_over_frozen: Interval
    forecast: ForecastFigures
    rule_over_forecast: Interval
    forecasts: int
    precision_days: list[str]
    precision: list[Line]
    forecast_days: list[str]
    forecast_error: list[Line]
    turns: list[TurnFigures]
    shared_features: list[str]
    stock_events: int
    times_out: int
    shown_out: int
    events: int
    seconds: float


def over_clusters(parts: Floats, weights: Floats, clusters: npt.NDArray[np.int64]) -> Interval:
    """Return sum(parts) / sum(weights) with a percentile bootstrap over clusters.

    Examples
    --------
    >>> over_clusters(np.array([1.0, 3.0]), np.ones(2), np.array([0, 1]))
    Interval(estimate=2.0, low=1.0, high=3.0)
    """
    if not len(parts):
        return Interval(float("nan"), float("nan"), float("nan"))
    per_cluster = np.bincount(clusters, parts), np.bincount(clusters, weights)
    count = len(per_cluster[0])
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = (drawn @ per_cluster[0]) / (drawn @ per_cluster[1])
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    estimate = parts.sum() / weights.sum()
    return Interval(_rounded(estimate), _rounded(low), _rounded(high))


def summary(figures: Figures) -> dict[str, object]:
    """Return what ``feilun demo --json`` prints."""
    names = ("later_half", "flywheel_over_rule", "flywheel_over_frozen", "forecast", "turns",
             "seconds")  # fmt: skip
    return {name: msgspec.to_builtins(getattr(figures, name)) for name in names}


def measure(
    history: OrderHistory,
    replayed: Replayed,
    frozen: Mapping[str, Sequence[Id]],
    turns: list[TurnFigures],
    shared_features: list[str],
) -> Figures:
    """Judge every list and every forecast.

    Parameters
    ----------
    frozen : mapping
        For each order's id the list of the first model, as if it had never been replaced; orders
        before that model are absent and take what was served.
    """
    judged = [made for made in replayed.lists if made.judged]
    hits = {
        name: _hits(judged, lambda made, name=name: _list_of(name, made, frozen))  # type: ignore[misc]
        for name in CONTENDERS
    }
    sizes = np.array([len(made.order.products) for made in judged], dtype=np.float64)
    later = slice(len(judged) // 2, None)
    customers = _codes([made.order.customer for made in judged[later]])

    def over(other: str) -> Interval:
        difference = (hits["flywheel"] - hits[other])[later] / K
        return over_clusters(difference, np.ones_like(difference), customers)

    forecasts = replayed.forecasts[len(replayed.forecasts) // 2 :]
    zone = ZoneInfo(history.timezone)
    first, last = (_day(order.time, zone) for order in (history.orders[0], history.orders[-1]))
    precision_days, precision = _precision_lines(judged, hits, zone)
    forecast_days, forecast_error = _error_lines(replayed.forecasts)
    return Figures(
        source=history.source,
        orders=len(history.orders),
        customers=len({order.customer for order in history.orders}),
        products=len({product for order in history.orders for product in order.products}),
        lines=history.lines,
        first_day=first,
        last_day=last,
        left_out=dict(history.left_out),
        judged=len(judged),
        later_half={name: _list_figures(hits[name][later], sizes[later]) for name in CONTENDERS},
        flywheel_over_rule=over("recency_rule"),
        flywheel_over_frozen=over("frozen"),
        forecast=_forecast_figures(forecasts),
        rule_over_forecast=_forecast_interval(forecasts),
        forecasts=len(replayed.forecasts),
        precision_days=precision_days,
        precision=precision,
        forecast_days=forecast_days,
        forecast_error=forecast_error,
        turns=turns,
        shared_features=shared_features,
        stock_events=replayed.stock_events,
        times_out=replayed.times_out,
        shown_out=replayed.shown_out,
        events=replayed.events,
        seconds=round(replayed.seconds, 1),
    )


def _list_of(name: str, made: Listed, frozen: Mapping[str, Sequence[Id]]) -> Sequence[Id]:
    if name == "frozen":
        return frozen.get(made.order.id, made.served)
    return {
        "popularity": made.popularity,
        "recency_rule": made.recency_rule,
        "flywheel": made.served,
    }[name]


def _hits(judged: Sequence[Listed], list_of: Callable[[Listed], Sequence[Id]]) -> Floats:
    return np.array(
        [len(set(list_of(made)[:K]) & set(made.order.products)) for made in judged],
        dtype=np.float64,
    )


def _list_figures(hits: Floats, sizes: Floats) -> ListFigures:
    return ListFigures(
        hit=_rounded((hits > 0).mean()),
        precision=_rounded((hits / K).mean()),
        recall=_rounded((hits / sizes).mean()),
    )


def _precision_lines(
    judged: Sequence[Listed], hits: Mapping[str, Floats], zone: ZoneInfo
) -> tuple[list[str], list[Line]]:
    bins = np.array_split(np.arange(len(judged)), min(BINS, len(judged)))
    days = [_day(judged[int(bin_[0])].order.time, zone) for bin_ in bins]
    lines = [
        Line(name, [_rounded((hits[name][bin_] / K).mean()) for bin_ in bins])
        for name in CONTENDERS
    ]
    return days, lines


def _error_lines(forecasts: Sequence[Forecasted]) -> tuple[list[str], list[Line]]:
    days = sorted({made.day for made in forecasts})
    if not days:
        return [], []
    which: dict[date, int] = {}
    bins = np.array_split(np.arange(len(days)), min(BINS, len(days)))
    for number, bin_ in enumerate(bins):
        which |= {days[int(place)]: number for place in bin_}
    groups: list[list[Forecasted]] = [[] for _ in bins]
    for made in forecasts:
        groups[which[made.day]].append(made)
    figures = [_forecast_figures(group) for group in groups]
    return [days[int(bin_[0])].isoformat() for bin_ in bins], [
        Line("rule", [_or_none(figure.rule) for figure in figures]),
        Line("flywheel", [_or_none(figure.flywheel) for figure in figures]),
    ]


def _forecast_figures(forecasts: Sequence[Forecasted]) -> ForecastFigures:
    sold, flywheel, rule = _misses(forecasts)
    total = sold.sum()
    if not total:
        return ForecastFigures(float("nan"), float("nan"))
    return ForecastFigures(_rounded(flywheel.sum() / total), _rounded(rule.sum() / total))


def _forecast_interval(forecasts: Sequence[Forecasted]) -> Interval:
    sold, flywheel, rule = _misses(forecasts)
    return over_clusters(rule - flywheel, sold, _codes([made.product for made in forecasts]))


def _misses(forecasts: Sequence[Forecasted]) -> tuple[Floats, Floats, Floats]:
    sold = np.array([made.sold for made in forecasts], dtype=np.float64)
    flywheel = np.array([made.flywheel for made in forecasts], dtype=np.float64)
    rule = np.array([made.rule for made in forecasts], dtype=np.float64)
    return sold, np.abs(sold - flywheel), np.abs(sold - rule)


def _codes(values: Sequence[Id]) -> npt.NDArray[np.int64]:
    known: dict[Id, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _day(moment: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(moment // SECOND, zone).date().isoformat()
