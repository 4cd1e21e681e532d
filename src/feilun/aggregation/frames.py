"""What goes into the kernel and what comes out of it: columns, never rows.

Every array of one frame has the same length. Nothing here is changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """Values with a mask. Where ``present`` is False the value means nothing.

    ``values`` is int64, float64, bool, or object (str, or a list for list features).
    """

    values: Array
    present: Bool

    def take(self, index: Int64 | Bool) -> Column:
        """Return the rows at ``index``, or where it is True."""
        return Column(self.values[index], self.present[index])


@dataclass(frozen=True, slots=True)
class EventFrame:
    """Events of one schema, in any order.

    Parameters
    ----------
    time : int64 array
        Effective times, µs UTC.
    tie : uint64 array
        A hash of (source, event id): orders events of the same time, so that ``last`` does not
        depend on the order of arrival.
    known : int64 array
        The log offset of each event; reads of the past cut on it.
    columns : mapping
        Field name to its column.
    """

    time: Int64
    tie: UInt64
    known: Int64
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: Int64 | Bool) -> EventFrame:
        """Return the events at ``index``, or where it is True."""
        columns = {name: column.take(index) for name, column in self.columns.items()}
        return EventFrame(self.time[index], self.tie[index], self.known[index], columns)
