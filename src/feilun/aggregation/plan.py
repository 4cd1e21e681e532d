"""Plans: which folds share their work and their rows.

Folds that count the same events for the same keys into the same tiles differ only in what they
compute of them. A plan folds them at once: their states stand side by side in the rows of one
array, with one time, and one search finds a window for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from feilun.aggregation.frames import Array
from feilun.aggregation.statistics import Statistic, statistic_of
from feilun.clock import DAY
from feilun.definitions.specs import ConditionSpec, EntitySpec, FoldSpec


@dataclass(frozen=True)
class Plan:
    """Folds that are computed together. Make plans with `plan_folds`, or one of a single fold.

    Parameters
    ----------
    folds : tuple of FoldSpec
        With the same event, keys, filter and tiles.
    """

    folds: tuple[FoldSpec, ...]

    @property
    def event(self) -> str:
        """The name of the event that is folded."""
        return self.folds[0].event

    @property
    def keys(self) -> tuple[EntitySpec, ...]:
        """The entities whose states these are."""
        return self.folds[0].keys

    @property
    def where(self) -> ConditionSpec | None:
        """Which events count; None: all."""
        return self.folds[0].where

    @property
    def hop(self) -> int:
        """The width of a tile in µs; 0 is one tile for all time."""
        return self.folds[0].hop

    @property
    def timezone(self) -> str:
        """Where days begin at midnight."""
        return self.folds[0].timezone

    @cached_property
    def retention(self) -> int | None:
        """How long its tiles are kept, in µs: as long as the longest of its folds needs them."""
        spans = [fold.retention for fold in self.folds]
        known = [span for span in spans if span is not None]
        return max(known) if len(known) == len(spans) else None

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields, beside keys, without which an event does not count."""
        return tuple(dict.fromkeys(fold.field for fold in self.folds if fold.field is not None))

    @cached_property
    def of_many_fields(self) -> bool:
        """Whether its folds are of different fields, or of one and of events; all are required."""
        return len({fold.field for fold in self.folds}) > 1

    @cached_property
    def statistics(self) -> tuple[Statistic, ...]:
        """What computes each fold."""
        return tuple(statistic_of(fold) for fold in self.folds)

    @property
    def keeps_events(self) -> bool:
        """Whether its rows are single events, not tiles of many."""
        return self.statistics[0].keeps_events

    @cached_property
    def row_type(self) -> np.dtype[np.void]:
        """The type of a row: its time, then the columns of each fold."""
        if len(self.folds) == 1:
            return self.statistics[0].row_type
        columns = [
            (f"{place}.{name}", *rest)
            for place, statistic in enumerate(self.statistics)
            for name, *rest in statistic.columns()
        ]
        return np.dtype([("time", "<i8"), *columns])

    @cached_property
    def merges(self) -> list[str] | None:
        """How each column of a row but its time merges in the compiled loops; None: not there."""
        of_folds = [statistic.merges for statistic in self.statistics]
        if None in of_folds:
            return None
        return [name for merges in of_folds for name in merges or ()]

    @cached_property
    def _views(self) -> tuple[np.dtype[np.void], ...]:
        """The type of each fold's own row on the memory of a common one."""
        whole = self.row_type
        views = []
        for place, statistic in enumerate(self.statistics):
            own = statistic.row_type.names or ()
            common = [self.name_of(place, name) for name in own]
            places: Any = whole.fields
            views.append(
                np.dtype(
                    {
                        "names": list(own),
                        "formats": [statistic.row_type[name] for name in own],
                        "offsets": [places[name][1] for name in common],
                        "itemsize": whole.itemsize,
                    }
                )
            )
        return tuple(views)

    def name_of(self, place: int, column: str) -> str:
        """Return what a column of the fold at ``place`` is called in the common rows."""
        return column if column == "time" or len(self.folds) == 1 else f"{place}.{column}"

    def rows_of(self, place: int, rows: Array) -> Array:
        """Return the rows as the fold at ``place`` knows them; the memory is the same."""
        if len(self.folds) == 1:
            return rows
        return rows.view(self._views[place])

    def place_of(self, fold: FoldSpec) -> int:
        """Return where a fold stands in the plan.

        Raises
        ------
        ValueError
            If it is not part of it.
        """
        return self.folds.index(fold)


def plan_folds(folds: Iterable[FoldSpec]) -> tuple[Plan, ...]:
    """Put folds together that can share rows, in the order in which they come.

    A fold of a field that may be absent shares only with folds of the same field: they all leave
    out the same events.
    """
    groups: dict[object, list[FoldSpec]] = {}
    for fold in folds:
        zone = fold.timezone if fold.hop and fold.hop % DAY == 0 else ""
        shared: object = None if fold.required else fold.field
        if not statistic_of(fold).shares_rows:
            shared = fold.fingerprint
        same = (fold.event, fold.keys, fold.where, fold.hop, zone, shared)
        groups.setdefault(same, []).append(fold)
    return tuple(Plan(tuple(group)) for group in groups.values())
