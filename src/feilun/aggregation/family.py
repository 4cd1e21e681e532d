"""Families: which tiles lie together in the store.

All tiles of one key lie in one blob, so that a read of many features of a user is one look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from feilun.aggregation.plan import Plan, plan_folds
from feilun.definitions.specs import EntitySpec, FeatureSpec, FoldSpec, digest

ID_BYTES = 8
"""The length of a family's id."""


@dataclass(frozen=True, eq=False)
class Family:
    """Plans with the same keys, whose tiles are stored together under each key.

    Families with the same id are equal.
    """

    plans: tuple[Plan, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Family) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def keys(self) -> tuple[EntitySpec, ...]:
        """The entities whose states these are."""
        return self.plans[0].keys

    @cached_property
    def id(self) -> bytes:
        """Eight bytes before each of its keys in the store.

        They name its folds, how they are arranged, and how long their tiles are kept.
        """
        plans = [[fold.fingerprint for fold in plan.folds] for plan in self.plans]
        return bytes.fromhex(digest("family/1", plans, [plan.retention for plan in self.plans]))

    @cached_property
    def folds(self) -> tuple[FoldSpec, ...]:
        """Every fold in it."""
        return tuple(fold for plan in self.plans for fold in plan.folds)

    @cached_property
    def stored_types(self) -> tuple[np.dtype[np.void], ...]:
        """How the rows of each plan are stored: a word for each number, and for each string."""
        return tuple(_stored_type(plan.row_type) for plan in self.plans)

    @cached_property
    def text_columns(self) -> tuple[str | None, ...]:
        """The name of the column of strings of each plan; None where it has none."""
        return tuple(
            next((n for n in plan.row_type.names or () if plan.row_type[n].hasobject), None)
            for plan in self.plans
        )

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many words a row of each plan takes."""
        return tuple(kind.itemsize // 8 for kind in self.stored_types)

    def place_of(self, fold: FoldSpec) -> tuple[int, int]:
        """Return the plan that a fold is in, and its place there.

        Raises
        ------
        KeyError
            If it is in none.
        """
        return self._places[fold.fingerprint]

    @cached_property
    def _places(self) -> dict[bytes, tuple[int, int]]:
        return {
            fold.fingerprint: (at, place)
            for at, plan in enumerate(self.plans)
            for place, fold in enumerate(plan.folds)
        }

    def __contains__(self, feature: FeatureSpec) -> bool:
        return feature.fold.fingerprint in self._places


def make_families(folds: Iterable[FoldSpec]) -> tuple[Family, ...]:
    """Arrange folds: those of the same entities in one family."""
    groups: dict[tuple[EntitySpec, ...], list[FoldSpec]] = {}
    for fold in folds:
        groups.setdefault(fold.keys, []).append(fold)
    return tuple(Family(plan_folds(group)) for group in groups.values())


def _stored_type(row_type: np.dtype[np.void]) -> np.dtype[np.void]:
    columns: list[tuple[Any, ...]] = []
    for name in row_type.names or ():
        kind = row_type[name].base
        stored = "<i8" if kind.hasobject else {"f": "<f8", "u": "<u8"}.get(kind.kind, "<i8")
        columns.append((name, stored, row_type[name].shape))
    return np.dtype(columns)
