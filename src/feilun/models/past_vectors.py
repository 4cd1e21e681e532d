"""Vectors of past requests, computed from events as an online read would have given them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from feilun.aggregation.frames import EventFrame, Float32
from feilun.definitions.specs import ModelSpec, Project
from feilun.features.expressions import request_columns
from feilun.features.point_in_time import Spine, point_in_time
from feilun.features.vectors import assemble


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
) -> list[Float32]:
    """Return the matrix of each request, one row an item.

    The one key of the model that a request does not give is its items'.
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
    matrix, _ = assemble(model.columns, values, int(sizes.sum()), categories)
    return np.split(matrix, np.cumsum(sizes)[:-1])
