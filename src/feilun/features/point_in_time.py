"""Features as they were: what an online read would have given at moments of the past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feilun.aggregation import read_past
from feilun.aggregation.frames import Column, EventFrame, Int64
from feilun.aggregation.keys import encode_values
from feilun.definitions.specs import FeatureSpec, Project
from feilun.errors import InputError
from feilun.features.frames import empty_frame


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """Whom to ask about, and as of when: one entry a query in every sequence.

    Attributes
    ----------
    keys : mapping
        Entity name to its values; an array of integers takes no look at each of them.
    as_of : int64 array
        Events before this time count, µs UTC.
    known : int64 array
        Events whose ``known`` in the frames is below this count: an offset (a prediction's
        ``folded_offset``), or a time if the frames were made with ``known="available"``.
    """

    keys: Mapping[str, Sequence[int | str] | Int64]
    as_of: Int64
    known: Int64

    def __len__(self) -> int:
        return len(self.as_of)


def point_in_time(
    project: Project,
    features: Sequence[FeatureSpec],
    spine: Spine,
    frames: Mapping[str, EventFrame],
) -> dict[str, Column]:
    """Return each feature's column over the spine, by address.

    Equal to what the online store answered at the same (as_of, folded offset). List features give
    lists, so that candidates can be made for past requests.

    Parameters
    ----------
    project : Project
        Whose events ``frames`` hold.
    features : sequence of FeatureSpec
        What to compute.
    spine : Spine
        The queries.
    frames : mapping
        Event name to its frame, from `feilun.features.frames.event_frames`.

    Raises
    ------
    InputError
        If the spine lacks a key of a feature, or its sequences differ in length.
    """
    lengths = {"known": len(spine.known)} | {n: len(values) for n, values in spine.keys.items()}
    for name, length in lengths.items():
        if length != len(spine):
            raise InputError(f"The spine has {len(spine)} times, but {length} values of {name}.")
    by_event: dict[str, list[FeatureSpec]] = {}
    for feature in features:
        by_event.setdefault(feature.fold.event, []).append(feature)
    keys = _checked(features, spine)
    columns: dict[str, Column] = {}
    for event, of_event in by_event.items():
        events = frames.get(event)
        if events is None:
            events = empty_frame(project.events[event])
        found = read_past(of_event, events, keys, spine.as_of, spine.known)
        columns.update(zip((feature.address for feature in of_event), found, strict=True))
    return {feature.address: columns[feature.address] for feature in features}


def _checked(
    features: Sequence[FeatureSpec], spine: Spine
) -> dict[str, Sequence[int | str] | Int64]:
    """Return the spine's values of each entity, after a look at their types."""
    checked = {}
    for entity in dict.fromkeys(entity for f in features for entity in f.fold.keys):
        values = spine.keys.get(entity.name)
        if values is None:
            raise InputError(f"The spine does not say {entity.name}.", "Add its values.")
        if not (isinstance(values, np.ndarray) and values.dtype == np.int64):
            encode_values(entity, list(set(values)))
        checked[entity.name] = values
    return checked
