"""Vectors of past requests, computed from events as an online read would have given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from feilun.aggregation.frames import Column, EventFrame, Float32
from feilun.definitions.specs import ModelSpec, Project, encodings_of
from feilun.features.encodings import encoded, row_columns, vectors_of
from feilun.features.expressions import request_columns
from feilun.features.point_in_time import Spine, point_in_time
from feilun.features.vectors import assemble
from feilun.ports.encoder import NO_ENCODERS, Encoders

ENCODED_ROWS = 20_000
"""Rows whose vectors of texts are there at once: at 1,000 numbers, 80 MB."""


class PastRequest(NamedTuple):
    """A request of the past: what was known then are the events below ``known``.

    ``asked`` are the parameters that its prediction was logged with.
    """

    keys: Mapping[str, int | str]
    items: Sequence[int | str]
    as_of: int
    known: int
    asked: Mapping[str, Any] = MappingProxyType({})


def past_vectors(
    project: Project,
    model: ModelSpec,
    requests: Sequence[PastRequest],
    frames: Mapping[str, EventFrame],
    categories: Mapping[str, Sequence[str]],
    *,
    encoders: Encoders = NO_ENCODERS,
) -> list[Float32]:
    """Return the matrix of each request, one row an item.

    The one key of the model that a request does not give is its items'.

    Raises
    ------
    Unavailable, ModelError
        If texts must be encoded and cannot be.
    """
    sizes = np.array([len(request.items) for request in requests], np.int64)
    keys = {
        entity.name: [
            value
            for request in requests
            for value in (
                [request.keys[entity.name]] * len(request.items)
                if entity.name in request.keys
                else request.items
            )
        ]
        for entity in model.keys
    }
    spine = Spine(
        keys=keys,
        as_of=np.repeat(np.array([request.as_of for request in requests], np.int64), sizes),
        known=np.repeat(np.array([request.known for request in requests], np.int64), sizes),
    )
    values = point_in_time(project, model.features, spine, frames)
    said = request_columns(
        model.request,
        [request.as_of for request in requests],
        [request.asked for request in requests],
    )
    each_row = np.repeat(np.arange(len(requests)), sizes)
    values |= {address: column.take(each_row) for address, column in said.items()}
    items = [item for request in requests for item in request.items]
    values |= row_columns(model.columns, items)
    matrix = _matrix(model, values, int(sizes.sum()), categories, encoders=encoders)
    return np.split(matrix, np.cumsum(sizes)[:-1])


def _matrix(
    model: ModelSpec,
    values: Mapping[str, Column],
    rows: int,
    categories: Mapping[str, Sequence[str]],
    *,
    encoders: Encoders,
) -> Float32:
    """Return the matrix; vectors of texts, long as they are, are there for some rows at once."""
    encodings = encodings_of(model.columns)
    if not encodings:
        return assemble(model.columns, values, rows, categories)[0]
    vectors = vectors_of(encodings, values, encoders)
    parts = [np.empty((0, model.width), np.float32)]
    for start in range(0, rows, ENCODED_ROWS):
        places = np.arange(start, min(start + ENCODED_ROWS, rows))
        some = {address: column.take(places) for address, column in values.items()}
        some |= encoded(encodings, some, vectors)
        parts.append(assemble(model.columns, some, len(places), categories)[0])
    return np.concatenate(parts)
