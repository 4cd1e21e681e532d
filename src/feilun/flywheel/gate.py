"""The gate: whether a challenger may replace what is in production."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.definitions.specs import GateSpec
from feilun.models.examples import Examples
from feilun.models.metrics import Interval, compare, evaluate, metric
from feilun.ports.skew_store import ModelSkew

SKEW_BOUND = 0.001
"""The largest part of the rows in which a feature may have been served otherwise than training
computes it. None should be; a model learns nothing wrong from one row in a thousand."""
SKEW_REQUESTS = 200
"""How many of the requests since the last turn are looked at."""
FEWEST_CLUSTERS = 30
"""Below this many customers (or items) an interval over them means little."""


class Rival(NamedTuple):
    """Whom the challenger is compared with, and what it gave each row."""

    name: str
    scores: npt.NDArray[np.float64]


class Decision(NamedTuple):
    """What the gate says, and the figures that it says it by."""

    promote: bool
    reason: str
    rival: str
    challenger_metric: float
    rival_metric: float
    interval: Interval


def decide(
    gate: GateSpec,
    name: str,
    holdout: Examples,
    challenger: npt.NDArray[np.float64],
    rival: Rival,
    *,
    seed: int,
) -> Decision:
    """Compare the challenger with its rival on outcomes that neither has seen.

    What cannot be evaluated is never better: no outcomes, scores that are not numbers, a metric
    without a value, or fewer than ``FEWEST_CLUSTERS`` clusters, all mean no.

    Parameters
    ----------
    gate : GateSpec
        The confidence, and by how much worse the challenger may be.
    name : str
        The metric.
    holdout : Examples
        The outcomes to judge by.
    challenger : float64 array
        The challenger's scores, one a row.
    rival : Rival
        The champion; without one, what was served.
    seed : int
        Chooses the bootstrap's resamples.
    """
    interval = compare(
        name, holdout, challenger, rival.scores, confidence=gate.confidence, seed=seed
    )
    if not interval.evaluable:
        promote, reason = False, f"not evaluable: {interval.reason}"
    elif interval.clusters < FEWEST_CLUSTERS:
        promote = False
        reason = (
            f"not evaluable: the requests to judge by are about {interval.clusters} subjects "
            f"(customers, or items), at least {FEWEST_CLUSTERS} needed; try again when there are "
            "outcomes of more of them"
        )
    else:
        promote = interval.low > -gate.margin
        reason = (
            f"{name} differs by {interval.estimate:+.4g} from {rival.name}, "
            f"{gate.confidence:.0%} interval {interval.low:+.4g} to {interval.high:+.4g}; "
            f"its lower end must be above {-gate.margin or 0.0:g}"
        )
    return Decision(
        promote,
        reason,
        rival.name,
        evaluate(name, holdout, challenger),
        evaluate(name, holdout, rival.scores),
        interval,
    )


def served_rival(name: str, holdout: Examples, mean: float) -> Rival:
    """Return what there is to beat without a champion.

    The scores that were served where they were logged, else the order of the replies where only
    order counts, else ``mean``, the mean outcome of the training data, for every row.
    """
    if np.isfinite(holdout.served).all():
        return Rival("what was served", holdout.served)
    if metric(name).ranks and (holdout.place >= 0).any():
        shown = np.where(holdout.place >= 0, -holdout.place.astype(np.float64), -np.inf)
        return Rival("what was served", shown)
    return Rival("a constant", np.full(len(holdout.y), mean))


def refuse_skew(decision: Decision, skew: str) -> Decision:
    """Return the decision; it is no where there is skew, which `skew_of` has put into words."""
    return decision._replace(promote=False, reason=skew) if skew else decision


def skew_of(skew: ModelSkew) -> str:
    """Say which feature is skewed beyond ``SKEW_BOUND`` the most; nothing if none is.

    Examples
    --------
    >>> from feilun.ports.skew_store import FeatureSkew
    >>> skew_of(ModelSkew(2, {}, {"user:age": FeatureSkew(1000, 1)}))
    ''
    >>> skew_of(ModelSkew(2, {}, {"user:age": FeatureSkew(1000, 20)}))[:72]
    'skew: user:age was served otherwise than training computes it in 2.0% of'
    """
    rates = {address: found.rate for address, found in skew.features.items()}
    worst = max(rates, key=lambda address: rates[address], default="")
    if not worst or rates[worst] <= SKEW_BOUND:
        return ""
    return (
        f"skew: {worst} was served otherwise than training computes it in {rates[worst]:.1%} of "
        f"{skew.features[worst].audited} rows; at most {SKEW_BOUND:.1%} may be"
    )


def skew_record(skew: ModelSkew) -> dict[str, Any]:
    """Return what an audit found as it is kept in the turn's record."""
    return {
        "requests": skew.requests,
        "left_out": skew.left_out,
        "rows": max((found.audited for found in skew.features.values()), default=0),
        "mismatched": {
            address: found.mismatched
            for address, found in skew.features.items()
            if found.mismatched
        },
        "reason": skew_of(skew),
    }


def record(decision: Decision) -> dict[str, Any]:
    """Return a decision as it is kept in the turn's record: JSON, no NaN."""
    return {
        "promote": decision.promote,
        "reason": decision.reason,
        "compared_with": decision.rival,
        "challenger": number(decision.challenger_metric),
        "champion": number(decision.rival_metric),
        "interval": interval_record(decision.interval),
    }


def interval_record(interval: Interval) -> dict[str, Any]:
    """Return an interval as it is kept in a record."""
    return {
        "estimate": number(interval.estimate),
        "low": number(interval.low),
        "high": number(interval.high),
        "clusters": interval.clusters,
    }


def number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN: None where there is no value."""
    return float(value) if np.isfinite(value) else None
