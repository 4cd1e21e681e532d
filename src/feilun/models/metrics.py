"""How good scores are, and whether some are better than others.

Each metric is told by totals that add up over clusters, so that one bootstrap serves them all:
a resample of the clusters is a matrix product, and both contestants see the same resamples.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.aggregation.frames import Int64
from feilun.errors import InputError
from feilun.models.examples import Examples

Floats = npt.NDArray[np.float64]

RESAMPLES = 1_000
_AT_ONCE = 1 << 22
"""Numbers gathered at once in a bootstrap: bounds the memory, not the result."""

_PRECISION = re.compile(r"precision@([1-9][0-9]*)")


class Interval(NamedTuple):
    """A difference with its confidence interval, positive where the first is better.

    NaN where it could not be evaluated; ``reason`` then says why.
    """

    estimate: float
    low: float
    high: float
    clusters: int
    reason: str = ""

    @property
    def evaluable(self) -> bool:
        """Whether there is a difference to speak of."""
        return not self.reason


@dataclass(frozen=True, slots=True, eq=False)
class Totals:
    """What a metric needs of each cluster, and the metric of their sums.

    ``parts`` is clusters by parts; ``finish`` takes (..., parts) to (...).
    """

    parts: Floats
    finish: Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to judge scores. ``sign`` is 1 where more is better, -1 where less is."""

    name: str
    sign: int
    totals: Callable[[Examples, Floats], Totals]
    ranks: bool
    """Whether only the order of scores counts; -inf then means: not shown."""


def metric(name: str) -> Metric:
    """Return the metric of that name: ``auc``, ``precision@k``, ``wape`` or ``rmse``.

    Raises
    ------
    InputError
        If there is none.
    """
    found = _METRICS.get(name)
    if found is not None:
        return found
    match = _PRECISION.fullmatch(name)
    if match is None:
        raise InputError(
            f"There is no metric {name!r}.", "Choose auc, precision@10 (any number), wape or rmse."
        )
    k = int(match[1])
    return Metric(name, 1, lambda examples, scores: _precision(examples, scores, k), ranks=True)


def evaluate(name: str, examples: Examples, scores: Floats) -> float:
    """Return the metric of some scores; NaN if it cannot be evaluated."""
    judge = metric(name)
    if _unusable(judge, examples, scores):
        return float("nan")
    totals = judge.totals(examples, scores)
    return float(_finish(totals, totals.parts.sum(axis=0)))


def compare(
    name: str, examples: Examples, a: Floats, b: Floats, *, confidence: float, seed: int
) -> Interval:
    """Return how much better ``a`` scores the examples than ``b`` does.

    A paired percentile bootstrap over clusters, in units of the metric. The same arguments give
    the same interval. Source: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993.

    Parameters
    ----------
    name : str
        The metric.
    examples : Examples
        The outcomes to judge by.
    a, b : float64 array
        One score a row.
    confidence : float
        Such as 0.95.
    seed : int
        Chooses the resamples.
    """
    judge = metric(name)
    reason = _unusable(judge, examples, a) or _unusable(judge, examples, b)
    if reason:
        return Interval(np.nan, np.nan, np.nan, 0, reason)
    first, second = judge.totals(examples, a), judge.totals(examples, b)
    difference = _finish(first, first.parts.sum(axis=0)) - _finish(second, second.parts.sum(axis=0))
    resampled = _resampled(first, second, seed)
    resampled = resampled[np.isfinite(resampled)]
    if not np.isfinite(difference) or len(resampled) < RESAMPLES // 2:
        return Interval(np.nan, np.nan, np.nan, 0, f"{name} has no value on these outcomes")
    tail = (1 - confidence) / 2
    low, high = np.quantile(judge.sign * resampled, (tail, 1 - tail))
    estimate = float(judge.sign * difference)
    return Interval(estimate, float(low), float(high), len(first.parts))


def _resampled(first: Totals, second: Totals, seed: int) -> Floats:
    clusters, width = first.parts.shape
    both = np.concatenate([first.parts, second.parts], axis=1)
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(1, both.size))
    found: list[Floats] = []
    for start in range(0, RESAMPLES, step):
        chosen = rng.integers(clusters, size=(min(step, RESAMPLES - start), clusters))
        sums = both[chosen].sum(axis=1)
        found.append(_finish(first, sums[:, :width]) - _finish(second, sums[:, width:]))
    return np.concatenate(found)


def _finish(totals: Totals, sums: Floats) -> Floats:
    """Return the metric of summed totals; NaN where it has no value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = totals.finish(sums)
    return np.where(np.isfinite(found), found, np.nan)


def _unusable(judge: Metric, examples: Examples, scores: Floats) -> str:
    """Say why the metric cannot be had; empty if it can."""
    if not len(examples):
        return "there are no outcomes"
    if len(scores) != len(examples.y):
        return f"there are {len(scores)} scores for {len(examples.y)} rows"
    bad = np.isnan(scores) | (scores == np.inf) if judge.ranks else ~np.isfinite(scores)
    if bad.any():
        return f"{int(bad.sum())} of {len(scores)} scores are not numbers"
    return ""


def _precision(examples: Examples, scores: Floats, k: int) -> Totals:
    """Hits among the first k of each request, divided by k; equal scores keep their order."""
    groups = examples.groups
    request = np.repeat(np.arange(len(groups)), groups)
    order = np.lexsort((-scores, request))
    rank = np.arange(len(scores)) - np.repeat(np.cumsum(groups) - groups, groups)
    hit = (rank < k) & (examples.y[order] > 0) & (scores[order] > -np.inf)
    hits = np.bincount(request[hit], minlength=len(groups)).astype(np.float64)
    cluster = _request_clusters(examples)
    return Totals(
        np.stack([_by(cluster, hits), _by(cluster, np.full(len(groups), float(k)))], axis=1),
        lambda sums: sums[..., 0] / sums[..., 1],
    )


def _wape(examples: Examples, scores: Floats) -> Totals:
    """Sum of absolute errors over the sum of what happened."""
    cluster = _codes(examples.cluster)
    error = np.abs(scores - examples.y)
    return Totals(
        np.stack([_by(cluster, error), _by(cluster, np.abs(examples.y))], axis=1),
        lambda sums: sums[..., 0] / sums[..., 1],
    )


def _rmse(examples: Examples, scores: Floats) -> Totals:
    """Square root of the mean squared error."""
    cluster = _codes(examples.cluster)
    square = (scores - examples.y) ** 2
    return Totals(
        np.stack([_by(cluster, square), _by(cluster, np.ones(len(square)))], axis=1),
        lambda sums: np.sqrt(sums[..., 0] / sums[..., 1]),
    )


def _auc(examples: Examples, scores: Floats) -> Totals:
    """Chance that a row with the outcome scores above one without; ties count half.

    It does not add up over clusters; its first-order terms do. Each row's is its placement among
    the rows of the other kind. Sources: DeLong, DeLong and Clarke-Pearson, *Biometrics* 44, 1988;
    for clusters Obuchowski, *Biometrics* 53, 1997.
    """
    positive = examples.y > 0
    cluster = _codes(examples.cluster)
    high, low = scores[positive], scores[~positive]
    if not len(high) or not len(low):
        return Totals(np.full((int(cluster.max()) + 1, 1), np.nan), lambda sums: sums[..., 0])
    above = _placements(high, low)
    below = 1 - _placements(low, high)
    area = float(above.mean())
    terms = np.empty(len(scores))
    terms[positive] = (above - area) / len(high)
    terms[~positive] = (below - area) / len(low)
    return Totals(_by(cluster, terms)[:, None], lambda sums: area + sums[..., 0])


def _placements(values: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    left = np.searchsorted(ordered, values, "left")
    right = np.searchsorted(ordered, values, "right")
    placements: Floats = (left + right) / (2 * len(others))
    return placements


def _request_clusters(examples: Examples) -> Int64:
    """Return whom each request is about; itself, if its rows are about several."""
    starts = np.cumsum(examples.groups) - examples.groups
    first = np.minimum.reduceat(examples.cluster, starts)
    if np.array_equal(first, np.maximum.reduceat(examples.cluster, starts)):
        return _codes(first)
    return np.arange(len(examples.groups))


def _codes(clusters: Int64) -> Int64:
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def _by(cluster: Int64, values: Floats) -> Floats:
    sums: Floats = np.zeros(int(cluster.max()) + 1)
    np.add.at(sums, cluster, values)
    return sums


_METRICS = {
    judge.name: judge
    for judge in (
        Metric("auc", 1, _auc, ranks=True),
        Metric("wape", -1, _wape, ranks=False),
        Metric("rmse", -1, _rmse, ranks=False),
    )
}
