"""The effect of a promotion, on outcomes since.

It is replayed foresight: both versions score the vectors that were logged, and are judged by what
happened. Customers were not asked twice, so it is no uplift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feilun.definitions.specs import ModelSpec
from feilun.errors import FeilunError
from feilun.flywheel.gate import interval_record
from feilun.models.examples import Examples
from feilun.models.metrics import compare
from feilun.models.training import score
from feilun.ports.releases import Release
from feilun.ports.scorer import ScorerLoader

CONFIDENCE = 0.95
METHOD = "replayed foresight"


def effect(
    root: Path,
    loaders: Mapping[str, ScorerLoader],
    model: ModelSpec,
    examples: Examples,
    releases: tuple[Release, Release],
    *,
    categories: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, Any]:
    """Measure what a release changed, on the requests logged since it.

    Parameters
    ----------
    root : Path
        The folder of bundles.
    loaders : mapping
        By format, what loads them.
    model : ModelSpec
        Whose releases they are.
    examples : Examples
        Ripe requests; those before the release are left out.
    releases : pair of Release
        The one before, and the one to measure.
    categories : mapping
        What the examples' texts are coded by.
    seed : int
        Chooses the bootstrap's resamples.

    Returns
    -------
    dict
        JSON: ``method``, the two versions, how many requests, and the difference in units of the
        metric with its 95% interval, or the ``reason`` why there is none.
    """
    before, after = releases
    since = examples.take(examples.offset >= after.offset)
    found: dict[str, Any] = {
        "method": METHOD,
        "metric": model.metric,
        "version": after.version,
        "before": before.version,
        "requests": len(since),
    }
    if not len(since):
        return found | {"reason": "no outcome since the promotion"}
    try:
        new = score(root, after.bundle, loaders, model, since, categories=categories)
        old = score(root, before.bundle, loaders, model, since, categories=categories)
    except FeilunError as error:
        return found | {"reason": str(error)}
    if new is None or old is None:
        return found | {"reason": "the columns have changed since"}
    interval = compare(model.metric, since, new, old, confidence=CONFIDENCE, seed=seed)
    return found | interval_record(interval) | {"reason": interval.reason}
