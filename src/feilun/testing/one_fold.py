"""The kernel for one fold alone: what laws of a statistic are stated in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feilun.aggregation import Family, Plan, Tiles, codec, encode_key, folding, past, reading
from feilun.aggregation.frames import Column, EventFrame, Int64
from feilun.aggregation.segments import expand
from feilun.definitions.specs import FeatureSpec, FoldSpec


def zero(spec: FoldSpec) -> Tiles:
    """Return the tiles of no events."""
    return folding.zero(Plan((spec,)))


def fold(spec: FoldSpec, events: EventFrame) -> Tiles:
    """Fold events into tiles."""
    return folding.fold(Plan((spec,)), events)


def merge(spec: FoldSpec, a: Tiles, b: Tiles) -> Tiles:
    """Merge tiles of disjoint sets of events."""
    return folding.merge(Plan((spec,)), a, b)


def expire(spec: FoldSpec, tiles: Tiles, before: int) -> Tiles:
    """Drop tiles that end at or before a moment."""
    return folding.expire(Plan((spec,)), tiles, before)


def encode(spec: FoldSpec, tiles: Tiles) -> list[tuple[bytes, bytes]]:
    """Return each key with its blob."""
    blobs = codec.encode(Family((Plan((spec,)),)), [tiles])
    return list(zip(tiles.keys, blobs, strict=True))


def decode(spec: FoldSpec, keys: Sequence[bytes], blobs: Sequence[bytes | None]) -> Tiles:
    """Return the tiles of ``keys``."""
    return codec.decode(Family((Plan((spec,)),)), keys, blobs)[0]


def read_past(
    feature: FeatureSpec, events: EventFrame, keys: Sequence[bytes], as_of: Int64, known: Int64
) -> Column:
    """Return the feature's value for encoded keys, at moments of the past."""
    entities = feature.fold.keys
    values: dict[bytes, list[int | str]] = {}
    for at in range(len(events)):
        columns = [events.columns[entity.name] for entity in entities]
        if all(column.present[at] for column in columns):
            of_event = [column.values[at : at + 1].tolist()[0] for column in columns]
            values[encode_key(entities, of_event)] = of_event
    nobody: list[int | str] = [0x7E57 if e.dtype == "int" else "nobody" for e in entities]
    asked = {
        entity.name: [values.get(key, nobody)[place] for key in keys]
        for place, entity in enumerate(entities)
    }
    return past.read_past([feature], events, asked, as_of, known)[0]


def read(feature: FeatureSpec, tiles: Tiles, rows: Int64 | None, as_of: int | Int64) -> Column:
    """Return a feature's value for the keys at ``rows`` (-1: a key without tiles), or for all."""
    if rows is not None:
        bounds = np.append(tiles.offsets, tiles.offsets[-1])
        rows = np.where(rows < 0, len(tiles), rows)
        index, offsets = expand(bounds[rows], bounds[rows + 1])
        tiles = Tiles([b""] * len(rows), offsets, tiles.rows[index])
    return reading.read(Plan((feature.fold,)), tiles, [feature], as_of)[0]
