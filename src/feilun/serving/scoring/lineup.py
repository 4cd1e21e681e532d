"""Who may answer for a model: its champion or a challenger, and which request gets which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from feilun.definitions.specs import ClassSpec, Readable, RequestSpec, encodings_of
from feilun.features.one_row import RowMatrix, is_plain
from feilun.ports.releases import Release, Rollout
from feilun.records.split import gets_challenger
from feilun.serving.scoring.guarded_scorer import GuardedScorer

Arm = Literal["champion", "challenger", "fallback", "shadow"]


@dataclass(frozen=True)
class Columns:
    """The columns of a matrix as this project computes them.

    ``digest`` is logged with each prediction: vectors of one digest may be trained on together.
    """

    columns: tuple[Readable, ...]
    request: tuple[RequestSpec, ...]
    categories: Mapping[str, Sequence[str]]
    digest: str

    @cached_property
    def row(self) -> RowMatrix | None:
        """What makes the matrix of one row quickly; None where that takes arithmetic."""
        return RowMatrix(self.columns, self.categories) if is_plain(self.columns) else None

    @cached_property
    def encoders(self) -> Mapping[str, str]:
        """The versions of the encoders that its texts go through, by name."""
        return {each.encoder: each.digest for each in encodings_of(self.columns)}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What a text classifier tells apart; nothing of other models, and of a mere number."""
        found = self.columns[0] if self.columns else None
        return found.classes if isinstance(found, ClassSpec) and found.item else ()

    @cached_property
    def said(self) -> tuple[str, ...]:
        """The parameters of the request that are columns, or parts of them."""
        return tuple(each.name for each in self.request if not each.is_moment)


@dataclass(frozen=True)
class Served:
    """A version, loaded, and the entry that put it here. A request keeps it to its end."""

    release: Release | Rollout
    scorer: GuardedScorer
    columns: Columns


class Assigned(NamedTuple):
    """Where the split puts a request: the arm, its probability, and what is to answer."""

    arm: Arm
    propensity: float
    served: Served | None


@dataclass(frozen=True)
class Lineup:
    """The versions of one model at one moment. It never changes: a new one takes its place.

    ``challenger`` and ``rollout`` are there while a rollout goes on whose version is loaded.
    """

    champion: Served | None = None
    challenger: Served | None = None
    rollout: Rollout | None = None

    @property
    def shadow(self) -> Served | None:
        """The version that scores what others answer."""
        is_shadow = self.rollout is not None and self.rollout.stage == "shadow"
        return self.challenger if is_shadow else None

    @property
    def answers_all(self) -> bool:
        """Whether some version answers every unit: a champion, or a challenger that all get."""
        everybodys = self.rollout is not None and self.rollout.percent >= 100
        return self.champion is not None or everybodys

    def assign(self, unit: str) -> Assigned:
        """Return what is to answer a request of ``unit``; the same for every request of it."""
        rollout = self.rollout
        share = 0.0 if rollout is None else rollout.percent / 100
        if rollout is not None and gets_challenger(rollout.salt, unit, rollout.percent):
            return Assigned("challenger", share, self.challenger)
        arm: Arm = "fallback" if self.champion is None else "champion"
        return Assigned(arm, 1.0 - share, self.champion)
