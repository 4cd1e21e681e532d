"""Reads the log once, and keeps what examples are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from feilun.aggregation.frames import Column, EventFrame, Float32
from feilun.definitions.specs import (
    CapabilitySpec,
    FeatureSpec,
    ModelSpec,
    Project,
    RequestSpec,
)
from feilun.errors import ModelError
from feilun.features.frames import FrameDecoder, empty_frame, event_frames
from feilun.features.vectors import column_names
from feilun.models.examples import Examples
from feilun.models.past_vectors import PastRequest, past_vectors
from feilun.models.training import text_columns
from feilun.ports.encoder import NO_ENCODERS, Encoders
from feilun.ports.event_log import EventLog
from feilun.records.codec import decode_prediction
from feilun.records.join import Asked, Occurrences, join
from feilun.records.record import LATE, PREDICTION_SCHEMA, Prediction, Record

MAX_REQUESTS = 10_000
"""The newest ripe requests that are kept to train on and to judge by."""
MAX_ROWS = 2_000_000
"""The most rows of those; at 30 columns their vectors are 240 MB."""
MAX_CATEGORIES = 10_000
"""The most values of one text column that get a code; later ones stay unknown."""
BATCH = 2_000
"""Records read at once."""


class _Kept(NamedTuple):
    offset: int
    prediction: Prediction

    @property
    def moment(self) -> tuple[int, str]:
        """When it was asked; ids order requests of the same time, whose arrival is chance."""
        return self.prediction.as_of, self.prediction.request_id


class ExampleLog:
    """The requests of one model with their outcomes, read from the log as it grows.

    What it returns depends on the log's records below the cut alone, not on how often it was
    called. Every record is read once; in memory are the requests whose outcome is still open, the
    newest ``MAX_REQUESTS`` ripe ones (at most ``MAX_ROWS`` rows), and the outcome events since.

    Parameters
    ----------
    project : Project
        The definitions.
    model : ModelSpec
        Whose requests.
    encoders : Encoders
        Encode texts of requests whose vectors are computed again.
    """

    def __init__(
        self, project: Project, model: ModelSpec, encoders: Encoders = NO_ENCODERS
    ) -> None:
        self._encoders = encoders
        self._project = project
        self._model = model
        self._history: dict[str, bytes] = {}
        self._decoder = FrameDecoder(project)
        self._coded = text_columns(model)
        self._texts = [each for each in self._coded if isinstance(each, FeatureSpec)]
        self._asked_texts = [each for each in self._coded if isinstance(each, RequestSpec)]
        self._read = {model.label.event, *(feature.fold.event for feature in self._texts)}
        self._restart()

    def _restart(self) -> None:
        self._position = 0
        self._now = 0
        self._open: list[_Kept] = []
        self._ripe: list[_Kept] = []
        self._let_go = (-1, "")
        self._outcomes: list[EventFrame] = []
        self._categories = {
            text.address: {text.default: 0} if isinstance(text.default, str) else {}
            for text in self._coded
        }
        self._recomputed: dict[int, Float32] = {}

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The known values of each text column, in the order in which the log told them.

        A value's code is its place: codes never change, there are only more of them.
        """
        return {address: tuple(codes) for address, codes in self._categories.items()}

    def advance(self, log: EventLog, cut: int) -> None:
        """Read the records below ``cut`` that are new; start again if the cut lies behind."""
        if cut < self._position:
            self._restart()
        if (history := log.schemas()) != self._history:
            self._history = history
            self._decoder = FrameDecoder(self._project, history)
        while self._position < cut:
            batch = log.read(self._position, min(BATCH, cut - self._position))
            batch = [pair for pair in batch if pair[0] < cut]
            if not batch:
                break
            self._take(batch)
            self._position = batch[-1][0] + 1
        self._position = max(self._position, cut)
        self._ripen()

    def examples(self, log: EventLog) -> Examples:
        """Return the ripe requests below the last cut, oldest first, with their outcomes.

        A request is ripe once the log's clock has passed the end of its window: until then, that
        nothing happened means nothing. Vectors of another definition of the columns are computed
        again from the log; requests for which that cannot be done are left out and counted.
        """
        vectors = self._vectors(log, self._ripe)
        usable = [(each, x) for each, x in zip(self._ripe, vectors, strict=True) if x is not None]
        predictions = [each.prediction for each, _ in usable]
        return build_examples(
            self._model,
            [Asked(p.as_of, p.keys, p.item, p.items) for p in predictions],
            [x for _, x in usable],
            self._outcome_frame(),
            clock=self._now,
            offsets=[each.offset for each, _ in usable],
            predictions=predictions,
            left_out=len(self._ripe) - len(usable),
        )

    def _take(self, batch: Sequence[tuple[int, Record]]) -> None:
        events: list[tuple[int, Record]] = []
        for offset, record in batch:
            self._now = max(self._now, record.received)
            if record.schema == PREDICTION_SCHEMA:
                prediction = decode_prediction(record.body)
                mine = prediction.model == self._model.name and prediction.personalised
                if mine and prediction.items:
                    self._open.append(_Kept(offset, prediction))
                    self._learn_asked(prediction)
            elif record.schema.partition(".")[0] in self._read and not record.flags & LATE:
                events.append((offset, record))
        frames = self._decoder.decode(events).frames
        outcomes = frames.get(self._model.label.event)
        if outcomes is not None:
            self._outcomes.append(outcomes)
        for feature in self._texts:
            frame = frames.get(feature.fold.event)
            if frame is not None and feature.fold.field is not None:
                self._learn(self._categories[feature.address], frame, feature.fold.field)

    @staticmethod
    def _learn(codes: dict[str, int], frame: EventFrame, field: str) -> None:
        column = frame.columns[field]
        in_order = np.argsort(frame.known, kind="stable")
        for value in column.values[in_order[column.present[in_order]]].tolist():
            if len(codes) < MAX_CATEGORIES:
                codes.setdefault(value, len(codes))

    def _learn_asked(self, prediction: Prediction) -> None:
        for text in self._asked_texts:
            value = prediction.request.get(text.name)
            codes = self._categories[text.address]
            if isinstance(value, str) and len(codes) < MAX_CATEGORIES:
                codes.setdefault(value, len(codes))

    def _ripen(self) -> None:
        """Move what has ripened, then let go of the oldest above the limits."""
        within = self._model.label.within
        ripened = [each for each in self._open if each.prediction.as_of + within <= self._now]
        self._open = [each for each in self._open if each.prediction.as_of + within > self._now]
        # One older than what was let go of goes too, or the result would depend on when we looked.
        self._ripe += [each for each in ripened if each.moment > self._let_go]
        self._ripe.sort(key=lambda each: each.moment)
        rows = np.cumsum([len(each.prediction.items) for each in reversed(self._ripe)])
        count = min(int((rows <= MAX_ROWS).sum()), MAX_REQUESTS)
        gone = self._ripe[: len(self._ripe) - count]
        self._ripe = self._ripe[len(gone) :]
        for each in gone:
            self._let_go = each.moment
            self._recomputed.pop(each.offset, None)
        # Outcomes before every request that is kept can never count again.
        oldest = min((e.prediction.as_of for e in (*self._ripe, *self._open)), default=self._now)
        self._outcomes = [f for f in self._outcomes if int(f.time.max()) >= oldest - within]

    def _outcome_frame(self) -> EventFrame:
        frames = self._outcomes or [empty_frame(self._project.events[self._model.label.event])]
        if len(frames) > 1:
            self._outcomes = [concatenate(frames)]
            frames = self._outcomes
        return frames[0]

    def _vectors(self, log: EventLog, kept: Sequence[_Kept]) -> list[Float32 | None]:
        """Return the matrix of each request: as logged, or computed again."""
        width = self._model.width
        digest = self._model.columns_digest
        stale = [
            each
            for each in kept
            if each.prediction.columns != digest and each.offset not in self._recomputed
        ]
        if stale:
            self._recomputed |= self._recompute(log, stale)
        found: list[Float32 | None] = []
        for offset, prediction in kept:
            if prediction.columns != digest:
                found.append(self._recomputed.get(offset))
            elif len(prediction.vectors) == 4 * width * len(prediction.items):
                x = np.frombuffer(prediction.vectors, np.float32)
                found.append(x.reshape(len(prediction.items), width))
            else:
                found.append(None)
        return found

    def _recompute(self, log: EventLog, stale: Sequence[_Kept]) -> dict[int, Float32]:
        names = {entity.name for entity in self._model.keys}
        able = [e for e in stale if names <= {*e.prediction.keys, e.prediction.item}]
        if not able:
            return {}
        requests = [
            PastRequest(p.keys, p.items, p.as_of, p.folded_offset, p.request)
            for p in (each.prediction for each in able)
        ]
        frames = event_frames(
            self._project, read_records(log, self._position), history=self._history
        )
        matrices = past_vectors(
            self._project, self._model, requests, frames, self.categories, encoders=self._encoders
        )
        return {each.offset: matrix for each, matrix in zip(able, matrices, strict=True)}


def capability_of(project: Project, model: ModelSpec) -> CapabilitySpec:
    """Return the first capability that the model answers, or else the first that it scores for.

    Raises
    ------
    ModelError
        If none does: then nothing says what one row is about.
    """
    for capability in project.capabilities.values():
        if capability.model == model.name:
            return capability
    for capability in project.capabilities.values():
        if model.name in capability.also:
            return capability
    raise ModelError(
        f"No capability uses the model {model.name}.",
        "Add one: its candidates and parameters say what the model scores.",
    )


def read_records(log: EventLog, cut: int) -> list[tuple[int, Record]]:
    """Return the events of the project below ``cut``, without what the system wrote."""
    found: list[tuple[int, Record]] = []
    position = 0
    while position < cut:
        batch = log.read(position, min(BATCH, cut - position))
        if not batch:
            break
        found += [pair for pair in batch if pair[0] < cut and pair[1].schema != PREDICTION_SCHEMA]
        position = batch[-1][0] + 1
    return found


def concatenate(frames: Sequence[EventFrame]) -> EventFrame:
    """Return one frame with the events of all, in their order; at least one is needed."""
    return EventFrame(
        np.concatenate([frame.time for frame in frames]),
        np.concatenate([frame.tie for frame in frames]),
        np.concatenate([frame.known for frame in frames]),
        {
            name: Column(
                np.concatenate([frame.columns[name].values for frame in frames]),
                np.concatenate([frame.columns[name].present for frame in frames]),
            )
            for name in frames[0].columns
        },
    )


def build_examples(
    model: ModelSpec,
    asked: Sequence[Asked],
    vectors: Sequence[Float32],
    outcomes: EventFrame,
    *,
    clock: int,
    offsets: Sequence[int],
    predictions: Sequence[Prediction] = (),
    left_out: int = 0,
) -> Examples:
    """Put ripe requests, their vectors, outcomes and (if there were any) replies together."""
    groups = np.array([len(each.items) for each in asked], np.int64)
    rows = int(groups.sum())
    served = np.full(rows, np.nan)
    place = np.full(rows, -1, np.int64)
    starts = (np.cumsum(groups) - groups).tolist()
    for start, prediction in zip(starts, predictions, strict=False):
        count = len(prediction.items)
        if len(prediction.scores) == 8 * count:
            served[start : start + count] = np.frombuffer(prediction.scores, np.float64)
        places = {each: position for position, each in reversed([*enumerate(prediction.answer)])}
        place[start : start + count] = [places.get(each, -1) for each in prediction.items]
    return Examples(
        features=column_names(model.columns),
        x=np.concatenate(vectors) if len(vectors) else np.empty((0, model.width), np.float32),
        y=join(model.label, asked, occurrences(outcomes), clock).labels,
        groups=groups,
        as_of=np.array([each.as_of for each in asked], np.int64),
        offset=np.array(offsets, np.int64),
        version=np.array([p.version for p in predictions] or [0] * len(asked), np.int64),
        cluster=_clusters(asked),
        served=served,
        place=place,
        left_out=left_out,
    )


def occurrences(events: EventFrame) -> Occurrences:
    """Return events as the join takes them: None where a field is absent."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, column in events.columns.items():
        columns[name] = column.values
        if not column.present.all():
            columns[name] = column.values.astype(object)
            columns[name][~column.present] = None
    return Occurrences(events.time, columns)


def _clusters(asked: Sequence[Asked]) -> npt.NDArray[np.int64]:
    """Return a number for whom each row is about: the request's first key, or the item."""
    codes: dict[object, int] = {}
    found: list[int] = []
    for request in asked:
        if request.keys:
            name = next(iter(request.keys))
            code = codes.setdefault((name, request.keys[name]), len(codes))
            found += [code] * len(request.items)
        else:
            found += [codes.setdefault(each, len(codes)) for each in request.items]
    return np.array(found, np.int64)
