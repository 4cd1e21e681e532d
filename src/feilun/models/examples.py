"""Examples: what was asked, what was served, and what came of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from feilun.aggregation.frames import Array as AnyArray
from feilun.aggregation.frames import Bool, Float32, Int64
from feilun.definitions.rows import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Answered requests with their outcomes, in the order of their moments.

    Attributes
    ----------
    features : tuple of str
        The address of each column of ``x``.
    x : float32 array, rows by features
        What the model was, or would have been, given.
    y : float64 array, rows
        The outcomes.
    groups : int64 array, requests
        How many rows each request has, in order.
    as_of : int64 array, requests
        The moment of each request, µs UTC; ascending.
    offset : int64 array, requests
        Where its prediction stands in the log; -1 for examples made from imported history.
    version : int64 array, requests
        The version that answered; 0 where none did.
    cluster : int64 array, rows
        A number for whom the row is about: rows of one cluster are not independent.
    served : float64 array, rows
        The score that was served; NaN where none was logged.
    place : int64 array, rows
        The place of the item in the reply, 0 first; -1 where it was not shown.
    left_out : int
        Ripe requests that could not be used.
    """

    features: tuple[str, ...]
    x: Float32
    y: AnyArray
    groups: Int64
    as_of: Int64
    offset: Int64
    version: Int64
    cluster: Int64
    served: AnyArray
    place: Int64
    left_out: int = 0

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.groups)

    def take(self, requests: Bool) -> Examples:
        """Return the requests for which the mask is true."""
        rows = np.repeat(requests, self.groups)
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            groups=self.groups[requests],
            as_of=self.as_of[requests],
            offset=self.offset[requests],
            version=self.version[requests],
            cluster=self.cluster[rows],
            served=self.served[rows],
            place=self.place[rows],
        )

    def digest(self) -> str:
        """Return 32 hex digits that name this data: columns, values, outcomes and moments."""
        name = hashlib.blake2b("\n".join(self.features).encode(), digest_size=16)
        for array in (self.x, self.y, self.groups, self.as_of, self.offset):
            name.update(np.ascontiguousarray(array).data)
        return name.hexdigest()

    def dataset(self, categorical: tuple[int, ...] = ()) -> Dataset:
        """Return what a training function is given."""
        return Dataset(self.features, self.x, self.y, self.groups, self.as_of, categorical)
