"""The events that matter for a few requests of the past, out of a log of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from feilun.aggregation.frames import Bool, EventFrame
from feilun.clock import DAY
from feilun.definitions.specs import FeatureSpec, FoldSpec, Project, longest
from feilun.features.frames import FrameDecoder
from feilun.features.set_aside import SetAside
from feilun.models.example_log import concatenate
from feilun.models.past_vectors import PastRequest
from feilun.ports.event_log import EventLog

Asked = Sequence[tuple[Sequence[FeatureSpec], Sequence[PastRequest]]]
"""Features, and the requests that read them."""


class RelevantEvents:
    """Reads a log a part at a time, and keeps what the features of some requests are made of.

    Of what counts for an entity only the events of the requests' own keys are kept, of windows only
    the events that lie in one, and of an event only the fields that are looked at.

    Parameters
    ----------
    project : Project
        The definitions.
    log : EventLog
        What to read.
    asked : sequence
        Features and the requests that read them.
    """

    def __init__(self, project: Project, log: EventLog, asked: Asked) -> None:
        requests = [request for _, some in asked for request in some]
        folds = longest(feature.fold for features, some in asked if some for feature in features)
        values: dict[str, set[int | str]] = {
            entity.name: set() for fold in folds for entity in fold.keys
        }
        for features, some in asked:
            names = {entity.name for feature in features for entity in feature.keys}
            for request in some:
                for name in names:
                    given = request.keys.get(name)
                    values[name].update(request.items if given is None else [given])
        times = [request.as_of for request in requests]
        self._filters = {
            event: _Filter.of([f for f in folds if f.event == event], values, times)
            for event in {fold.event for fold in folds}
        }
        # What no feature is made of is not even decoded.
        events = {name: event for name, event in project.events.items() if name in self._filters}
        self._decoder = FrameDecoder(replace(project, events=events), log.schemas())
        self._aside = SetAside(log)
        self._log = log
        self._position = 0
        self._end = max([request.known for request in requests], default=0) if folds else 0
        self._kept: dict[str, list[EventFrame]] = {}

    def read(self, limit: int) -> bool:
        """Read up to ``limit`` more records; return whether there are more.

        Raises
        ------
        CorruptData
            If they cannot be read.
        """
        if self._position >= self._end:
            return False
        batches = self._log.read_batches(self._position, min(limit, self._end - self._position))
        if not batches:
            self._position = self._end
            return False
        self._position = batches[-1].end
        if aside := self._aside.offsets():
            batches = [batch.without(aside) for batch in batches]
        for event, frame in self._decoder.decode_batches(batches).frames.items():
            kept = self._filters[event].chosen(frame)
            if len(kept):
                self._kept.setdefault(event, []).append(kept)
        return self._position < self._end

    def frames(self) -> dict[str, EventFrame]:
        """Return what was kept, by event name."""
        return {event: concatenate(parts) for event, parts in self._kept.items()}


@dataclass(frozen=True)
class _Filter:
    """Which events of one kind matter: their keys, times and fields."""

    keys: tuple[tuple[str, ...], ...]
    values: dict[str, set[int | str]]
    since: int
    until: int
    fields: frozenset[str]

    @staticmethod
    def of(
        folds: Sequence[FoldSpec], values: dict[str, set[int | str]], times: list[int]
    ) -> _Filter:
        reach = [None if f.retention is None else f.retention + f.hop + DAY for f in folds]
        farthest = None if None in reach else max(r for r in reach if r is not None)
        fields = {field for fold in folds for field in (fold.where.fields if fold.where else ())}
        fields |= {fold.field for fold in folds if fold.field is not None}
        fields |= {entity.name for fold in folds for entity in fold.keys}
        return _Filter(
            keys=tuple({tuple(entity.name for entity in fold.keys) for fold in folds}),
            values=values,
            since=-(2**63) if farthest is None else min(times) - farthest,
            until=max(times),
            fields=frozenset(fields),
        )

    def chosen(self, frame: EventFrame) -> EventFrame:
        in_time: Bool = (frame.time >= self.since) & (frame.time < self.until)
        wanted = {name: self._is_wanted(frame, name) for name in {n for k in self.keys for n in k}}
        by_key = np.zeros(len(frame), np.bool_)
        for names in self.keys:
            here = np.ones(len(frame), np.bool_)
            for name in names:
                here &= wanted[name]
            by_key |= here
        rows = np.flatnonzero(in_time & by_key)
        columns = {name: frame.columns[name].take(rows) for name in sorted(self.fields)}
        return EventFrame(frame.time[rows], frame.tie[rows], frame.known[rows], columns)

    def _is_wanted(self, frame: EventFrame, name: str) -> Bool:
        values, some = frame.columns[name].values, self.values[name]
        if values.dtype == object:
            return np.array([value in some for value in values.tolist()], np.bool_)
        found: Bool = np.isin(values, np.array(sorted(some), values.dtype))
        return found
