"""Examples from history: for the first model, before anything was asked or served.

Where requests have keys, each distinct (keys, moment) among the outcome events of the history is
taken for a request just before it, with the candidates that would have been found then. Where only
items are asked about, each midnight is taken for a request about every item seen before. Values
are read as they were known at that moment: events count from when they became available.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feilun.aggregation.frames import EventFrame
from feilun.aggregation.hops import floor_hop
from feilun.clock import DAY, to_iso
from feilun.definitions.specs import CapabilitySpec, ModelSpec, Project
from feilun.errors import ModelError
from feilun.features.frames import event_frames
from feilun.features.point_in_time import Spine, point_in_time
from feilun.models.example_log import (
    MAX_REQUESTS,
    build_examples,
    capability_of,
    read_records,
)
from feilun.models.examples import Examples
from feilun.models.past_vectors import PastRequest, past_vectors
from feilun.ports.event_log import EventLog
from feilun.records.join import Asked

MAX_PAST_ROWS = 500_000
"""The newest rows that are made: each value is computed from events, not read."""


def history_examples(
    project: Project,
    model: ModelSpec,
    log: EventLog,
    cut: int,
    categories: Mapping[str, Sequence[str]],
) -> Examples:
    """Make examples from the events below ``cut``: the newest requests whose outcome is ripe.

    Raises
    ------
    ModelError
        If the history holds no outcome event, or none with the request's keys.
    """
    capability = capability_of(project, model)
    frames = event_frames(project, read_records(log, cut), "available", log.schemas())
    outcomes = frames.get(model.label.event)
    if outcomes is None or not len(outcomes):
        raise ModelError(
            f"There is no {model.label.event} event to train {model.name} on.",
            "Send some, or load past ones with feilun import.",
        )
    end = max(int(frame.time.max()) for frame in frames.values())
    ripe = end - model.label.within
    names = _request_keys(model, capability)
    if names:
        moments = _moments(outcomes, names, ripe)
        asked = _by_request(project, capability, names, frames, moments)
    else:
        asked = _by_day(project, capability.item, outcomes, ripe)
    asked = _newest(asked)
    if not asked:
        known = int(outcomes.time.min()) + model.label.within
        raise ModelError(
            f"The history holds no request whose outcome is known, to train {model.name} on.",
            f"Try again when there are events from after {to_iso(known)}, of requests that name "
            f"{', '.join(names) or 'items'} and have candidates from before.",
        )
    # An event that became available at the very moment was known: ``known`` is exclusive.
    past = [PastRequest(each.keys, each.items, each.as_of, each.as_of + 1) for each in asked]
    vectors = past_vectors(project, model, past, frames, categories)
    return build_examples(model, asked, vectors, outcomes, clock=end, offsets=[-1] * len(asked))


def _request_keys(model: ModelSpec, capability: CapabilitySpec) -> tuple[str, ...]:
    """Return the keys that a request must give, in order."""
    entities = [*model.keys]
    for feature in capability.candidates:
        entities += feature.fold.keys
    return tuple(dict.fromkeys(e.name for e in entities if e.name != capability.item))


def _by_request(
    project: Project,
    capability: CapabilitySpec,
    names: tuple[str, ...],
    frames: Mapping[str, EventFrame],
    moments: Sequence[tuple[Any, ...]],
) -> list[Asked]:
    """Return the requests made up for ``moments`` with the candidates found at each."""
    spine = moments[-MAX_REQUESTS:]
    lists = point_in_time(
        project,
        capability.candidates,
        Spine(
            keys={name: [row[1 + n] for row in spine] for n, name in enumerate(names)},
            as_of=np.array([row[0] for row in spine], np.int64),
            known=np.array([row[0] + 1 for row in spine], np.int64),
        ),
        frames,
    )
    asked: list[Asked] = []
    for place, (moment, *keys) in enumerate(spine):
        found: dict[int | str, None] = {}
        for feature in capability.candidates:
            column = lists[feature.address]
            if column.values[place] is not None:
                found.update(dict.fromkeys(column.values[place]))
        if found:
            request = dict(zip(names, keys, strict=True))
            asked.append(Asked(moment, request, capability.item, tuple(found)))
    return asked


def _moments(outcomes: EventFrame, names: tuple[str, ...], ripe: int) -> list[tuple[Any, ...]]:
    """Return each distinct (time, *keys) of the outcome events up to ``ripe``, in order."""
    absent = [name for name in names if name not in outcomes.columns]
    if absent:
        raise ModelError(
            f"The outcome events do not say {', '.join(absent)}, so no request can be made up.",
            "Let the gateway answer from the fallback first: what it logs trains the first model.",
        )
    columns = [outcomes.columns[name] for name in names]
    usable = np.all([column.present for column in columns], axis=0) & (outcomes.time <= ripe)
    keys = [column.values[usable].tolist() for column in columns]
    return sorted(set(zip(outcomes.time[usable].tolist(), *keys, strict=True)))


def _by_day(project: Project, item: str, outcomes: EventFrame, ripe: int) -> list[Asked]:
    column = outcomes.columns[item]
    items, place = np.unique(column.values[column.present], return_inverse=True)
    first_seen = np.full(len(items), np.iinfo(np.int64).max)
    np.minimum.at(first_seen, place, outcomes.time[column.present])
    # Half a day apart, so that no day that is shorter than 24 hours is stepped over.
    moments = np.arange(int(outcomes.time.min()), ripe + 1, DAY // 2)
    midnights = np.unique(floor_hop(moments, DAY, project.timezone))
    return [
        Asked(midnight, {}, item, items[first_seen < midnight].tolist())
        for midnight in midnights.tolist()
        if (first_seen < midnight).any()
    ]


def _newest(asked: Sequence[Asked]) -> list[Asked]:
    """Return the newest requests within the limits of what is trained on."""
    rows = np.cumsum([len(each.items) for each in reversed(asked)])
    count = min(int((rows <= MAX_PAST_ROWS).sum()), MAX_REQUESTS)
    return list(asked[len(asked) - count :])
