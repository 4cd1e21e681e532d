"""Skew: whether the vectors that were served are those that training computes.

Some logged predictions are chosen by a hash of their request ids. Their vectors are computed again
from the log, at the same moment and with the same knowledge, and compared feature by feature.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feilun.aggregation.frames import Bool, Float32
from feilun.definitions.specs import (
    ClassSpec,
    EncodingSpec,
    ExpressionSpec,
    ModelSpec,
    Project,
    Readable,
    RequestSpec,
    encodings_of,
)
from feilun.errors import CorruptData, ModelError
from feilun.models.bundle import read_bundle, resolve_columns
from feilun.models.past_vectors import PastRequest, past_vectors
from feilun.models.relevant_events import RelevantEvents
from feilun.ports.encoder import NO_ENCODERS, Encoders
from feilun.ports.event_log import EventLog
from feilun.ports.releases import Release, ReleaseHistory, Rollout
from feilun.ports.skew_store import FeatureSkew, ModelSkew
from feilun.records.codec import decode_prediction
from feilun.records.erasure import Erasures
from feilun.records.record import PREDICTION_SCHEMA, RECOMPUTE, Prediction

STEP = 50_000
"""Records read at a time: about a tenth of a second."""


class Bounds(NamedTuple):
    """By how much values may differ: relative to the larger of two, and to the column's largest."""

    relative: float
    absolute: float


ADDED = Bounds(1e-6, 1e-11)
"""Of sums of floats: they are kept as float32, and may cancel out to nearly nothing."""
ENCODED = Bounds(1e-4, 1e-4)
"""Of vectors of texts: their last digits depend on what was encoded together."""

_ADDED = frozenset({"sum", "mean"})
_ROUNDED = frozenset({"var", "std", "decayed", "custom"})


class Meaning(NamedTuple):
    """What the columns of logged vectors are, and the codes of their texts."""

    model: ModelSpec
    categories: Mapping[str, Sequence[str]]
    logged: str


class Meanings:
    """Knows what the columns of each version of the project's models are.

    Parameters
    ----------
    project : Project
        The definitions, as they are now.
    releases : ReleaseHistory
        Which bundle each version is.
    bundles : Path
        The folder of bundles.
    encoders : Encoders
        Encode texts, to compute their vectors again.
    """

    def __init__(
        self,
        project: Project,
        releases: ReleaseHistory,
        bundles: Path,
        encoders: Encoders = NO_ENCODERS,
    ) -> None:
        self.project = project
        self.encoders = encoders
        self._releases = releases
        self._bundles = bundles
        self._known: dict[tuple[str, int], Meaning | None] = {}

    def of(self, prediction: Prediction) -> Meaning | None:
        """Return what its vectors mean; None where the project cannot tell any more."""
        model = self.project.models[prediction.model]
        key = (prediction.model, prediction.version)
        if key not in self._known:
            self._known[key] = self._find(model, prediction.version)
        meaning = self._known[key]
        same = meaning is not None and meaning.logged == prediction.columns
        return meaning if same else None

    def _find(self, model: ModelSpec, version: int) -> Meaning | None:
        if version == 0:  # nothing scored; a text has no code yet
            return Meaning(model, {}, model.columns_digest)
        entries: list[Release | Rollout] = [*self._releases.entries(model.name)]
        entries += self._releases.rollouts(model.name)
        digest = next((entry.bundle for entry in entries if entry.version == version), None)
        if digest is None:
            return None
        try:
            bundle, _ = read_bundle(self._bundles, digest)
            columns = resolve_columns(bundle.columns, self.project, bundle.folds)
        except (ModelError, CorruptData):
            return None
        meant = replace(model, columns=columns)
        return Meaning(meant, bundle.categories, bundle.logged_columns(meant.columns_digest))


class Sample:
    """Chooses predictions of one model: the ``size`` with the smallest hashes of their ids."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chosen: list[tuple[bytes, Prediction]] = []

    def add(self, predictions: Iterable[Prediction]) -> None:
        """Consider more predictions."""
        named = [
            (hashlib.blake2b(p.request_id.encode(), digest_size=8).digest(), p)
            for p in predictions
            if p.items
        ]
        self._chosen = nsmallest(self._size, [*self._chosen, *named], key=lambda pair: pair[0])

    def predictions(self) -> list[Prediction]:
        """Return those that are chosen."""
        return [prediction for _, prediction in self._chosen]


class Audit:
    """Computes the vectors of predictions again, a part of the log at a time, and compares them.

    Parameters
    ----------
    log : EventLog
        What the vectors were made from.
    meanings : Meanings
        What their columns are.
    predictions : sequence of Prediction
        Of any models of the project.
    """

    def __init__(
        self, log: EventLog, meanings: Meanings, predictions: Sequence[Prediction]
    ) -> None:
        self._project = meanings.project
        self._encoders = meanings.encoders
        self._groups: dict[tuple[str, int], tuple[Meaning, list[Prediction]]] = {}
        self._left_out: dict[str, Counter[str]] = {}
        erasures = log.erasures()
        for prediction in predictions:
            meaning = meanings.of(prediction)
            reason = _unfit(prediction, meaning, erasures)
            if meaning is None or reason:
                self._left_out.setdefault(prediction.model, Counter())[reason] += 1
            else:
                key = (prediction.model, prediction.version)
                self._groups.setdefault(key, (meaning, []))[1].append(prediction)
        asked = [
            (meaning.model.features, list(map(_past, chosen)))
            for meaning, chosen in self._groups.values()
        ]
        self._events = RelevantEvents(meanings.project, log, asked)

    def step(self, limit: int = STEP) -> bool:
        """Read up to ``limit`` more records; return whether there are more to read."""
        return self._events.read(limit)

    def result(self) -> dict[str, ModelSkew]:
        """Return what came out, by model. Call it when everything is read."""
        frames = self._events.frames()
        found = {model: ModelSkew(0, dict(why)) for model, why in self._left_out.items()}
        for (name, _), (meaning, chosen) in self._groups.items():
            again = past_vectors(
                self._project,
                meaning.model,
                list(map(_past, chosen)),
                frames,
                meaning.categories,
                encoders=self._encoders,
            )
            width = meaning.model.width
            logged = [np.frombuffer(p.vectors, np.float32).reshape(-1, width) for p in chosen]
            features = compare(meaning.model, np.concatenate(logged), np.concatenate(again))
            found[name] = found.get(name, ModelSkew()).plus(ModelSkew(len(chosen), {}, features))
        return found


def audit_between(
    log: EventLog, meanings: Meanings, model: str, start: int, stop: int, *, size: int
) -> ModelSkew:
    """Audit up to ``size`` of a model's predictions at offsets ``start`` to ``stop - 1``.

    A function of the log up to ``stop``: the same is chosen and found whenever it is called.
    """
    sample = Sample(size)
    while start < stop:
        predictions, start = predictions_from(log, start, min(STEP, stop - start))
        sample.add(p for p in predictions if p.model == model)
    audit = Audit(log, meanings, sample.predictions())
    while audit.step():
        pass
    return audit.result().get(model, ModelSkew())


def predictions_from(log: EventLog, start: int, limit: int) -> tuple[list[Prediction], int]:
    """Return the predictions at up to ``limit`` offsets from ``start`` on, and where they end."""
    batches = log.read_batches(start, limit)
    found = [
        decode_prediction(body)
        for batch in batches
        for run in batch.runs
        if run.schema == PREDICTION_SCHEMA
        for body in run.bodies()
    ]
    return found, batches[-1].end if batches else start + limit


def compare(model: ModelSpec, logged: Float32, again: Float32) -> dict[str, FeatureSkew]:
    """Count the rows in which each column of the model differs, by its address.

    NaN equals NaN. Everything is compared to the bit of a float32, but for sums of floats, vectors
    of texts, and what is computed from them.
    """
    found, place = {}, 0
    for column in model.columns:
        part = slice(place, place + column.width)
        place += column.width
        bounds = ENCODED if encodings_of((column,)) else ADDED
        same = _same(logged[:, part], again[:, part], None if is_exact(column) else bounds)
        mismatched = int((~same.all(axis=1)).sum())
        found[column.address] = FeatureSkew(len(logged), mismatched)
    return found


def is_exact(column: Readable) -> bool:
    """Whether a value does not depend on the order in which floats were added."""
    if isinstance(column, EncodingSpec | ClassSpec):
        return False
    if isinstance(column, ExpressionSpec):
        return not encodings_of((column,)) and all(is_exact(part) for part in column.inputs)
    if isinstance(column, RequestSpec):
        return True
    fold = column.fold
    added = fold.kind in _ADDED and fold.dtype in ("float", "vector")
    return not added and fold.kind not in _ROUNDED


def _same(a: Float32, b: Float32, bounds: Bounds | None) -> Bool:
    same: Bool = (a == b) | (np.isnan(a) & np.isnan(b))
    if bounds is None or same.all():
        return same
    finite = np.isfinite(a) & np.isfinite(b)
    left, right = (np.where(finite, side, 0.0).astype(np.float64) for side in (a, b))
    sizes = np.maximum(abs(left), abs(right))
    bound = bounds.relative * sizes + bounds.absolute * sizes.max(initial=0.0)
    close: Bool = finite & (abs(left - right) <= bound)
    return same | close


def _unfit(prediction: Prediction, meaning: Meaning | None, erasures: Erasures | None) -> str:
    """Return why a prediction cannot be audited; nothing if it can."""
    if prediction.columns == RECOMPUTE:
        return "unbuilt"
    if meaning is None:
        return "changed"
    if erasures is not None and prediction.as_of <= max(erasures.moments.values(), default=-1):
        return "erased"
    known = {*prediction.keys, prediction.item}
    if any(entity.name not in known for entity in meaning.model.keys):
        return "changed"
    if len(prediction.vectors) != 4 * meaning.model.width * len(prediction.items):
        return "unreadable"
    return ""


def _past(prediction: Prediction) -> PastRequest:
    return PastRequest(
        prediction.keys,
        prediction.items,
        prediction.as_of,
        prediction.folded_offset,
        prediction.request,
    )
