"""Turns, releases, the registry and the audit in memory: for tests, and to read what ports mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feilun.errors import Conflict, Fenced, ModelError, UnknownName
from feilun.ports.model_registry import ModelVersion
from feilun.ports.releases import Action, Release, Rollout, Stage
from feilun.ports.skew_store import SkewState
from feilun.ports.turn_store import Step, Turn, TurnState


class InMemoryTurns:
    """`TurnStore` in dictionaries."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._steps: dict[int, dict[str, Step]] = {}
        self._leases: dict[int, tuple[str, int]] = {}
        self._fences: dict[int, int] = {}
        self._examined: dict[str, int] = {}

    def open(self, model: str, trigger: str, cut: int, now: int) -> Turn:
        """Begin a turn, or return the one of the same (model, cut)."""
        for turn in self._turns:
            if (turn.model, turn.cut) == (model, cut):
                return turn
        turn = Turn(len(self._turns) + 1, model, trigger, cut, "running", now, None)
        self._turns.append(turn)
        self._steps[turn.id] = {}
        self._fences[turn.id] = 0
        return turn

    def claim(self, turn: int, owner: str, now: int, lease: int) -> int:
        """Take the turn for ``lease`` µs and return its fence."""
        if turn not in self._fences:
            raise UnknownName(f"There is no turn {turn}.")
        holder, until = self._leases.get(turn, ("", 0))
        if until > now and holder != owner:
            raise Fenced(f"Turn {turn} is held by {holder}.")
        self._leases[turn] = (owner, now + lease)
        self._fences[turn] += 1
        return self._fences[turn]

    def save_step(self, turn: int, step: Step, fence: int) -> None:
        """Keep a finished step."""
        self.check_fence(turn, fence)
        kept = self._steps[turn].get(step.name)
        if kept is None or kept.input_digest != step.input_digest:
            self._steps[turn][step.name] = step

    def steps(self, turn: int) -> list[Step]:
        """Return the finished steps, in order."""
        return list(self._steps.get(turn, {}).values())

    def finish(self, turn: int, state: TurnState, now: int, fence: int) -> None:
        """End the turn."""
        self.check_fence(turn, fence)
        found = self._turns[turn - 1]
        if found.state == state:
            return
        if found.state != "running":
            raise Conflict(f"Turn {turn} has ended as {found.state}.")
        self._turns[turn - 1] = found._replace(state=state, ended=now)
        self._leases.pop(turn, None)

    def get(self, turn: int) -> Turn | None:
        """Return a turn."""
        return self._turns[turn - 1] if 0 < turn <= len(self._turns) else None

    def turns(self, model: str | None = None) -> list[Turn]:
        """Return all turns, oldest first."""
        return [turn for turn in self._turns if model in (None, turn.model)]

    def note_examined(self, model: str, offset: int) -> None:
        """Remember that triggers have been looked at up to ``offset``; never moves back."""
        self._examined[model] = max(offset, self.examined(model))

    def examined(self, model: str) -> int:
        """Return how far triggers have been looked at; 0 at first."""
        return self._examined.get(model, 0)

    def check_fence(self, turn: int, fence: int) -> None:
        """Raise Fenced if ``turn`` has been claimed since ``fence`` was given."""
        if self._fences.get(turn) != fence:
            raise Fenced(f"Turn {turn} has been taken over by another controller.")


class InMemorySkew:
    """`SkewStore` in a variable."""

    def __init__(self) -> None:
        self._state = SkewState()

    def load(self) -> SkewState:
        """Return the state."""
        return self._state

    def save(self, state: SkewState, expected: int) -> None:
        """Put ``state`` in the place of the one at offset ``expected``."""
        if self._state.offset != expected:
            raise Fenced(f"The audit stands at offset {self._state.offset}, not {expected}.")
        self._state = state

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


class InMemoryReleases:
    """`ReleaseHistory` in a list; ``turns`` holds the fences that it compares."""

    def __init__(self, turns: InMemoryTurns) -> None:
        self._turns = turns
        self._entries: list[Release] = []
        self._rollouts: list[Rollout] = []
        self._workers: dict[tuple[str, str], tuple[int, int, int]] = {}

    def append(
        self,
        model: str,
        version: int,
        bundle: str,
        *,
        action: Action,
        offset: int,
        at: int,
        turn: int | None,
        by: str,
        fence: int | None = None,
        after: int | None = None,
    ) -> Release:
        """Put a version in production; a turn's second try returns its first entry."""
        if turn is not None and fence is not None:
            self._turns.check_fence(turn, fence)
        newest = self.current(model)
        if after is not None and after != (newest.sequence if newest else 0):
            raise Conflict(f"Somebody else has changed what is served of {model}.")
        for entry in self.entries(model):
            if turn is not None and entry.turn == turn:
                return entry
        latest = max((entry.at for entry in self.entries(model)), default=at)
        sequence = len(self._entries) + 1
        release = Release(
            sequence, model, version, bundle, action, offset, max(at, latest), turn, by
        )
        self._entries.append(release)
        return release

    def current(self, model: str) -> Release | None:
        """Return what is in production."""
        entries = self.entries(model)
        return entries[-1] if entries else None

    def at(self, model: str, time: int) -> Release | None:
        """Return what was in production at ``time`` (µs UTC)."""
        entries = [entry for entry in self.entries(model) if entry.at <= time]
        return entries[-1] if entries else None

    def entries(self, model: str | None = None) -> list[Release]:
        """Return the whole history, oldest first."""
        return [entry for entry in self._entries if model in (None, entry.model)]

    def append_rollout(
        self,
        model: str,
        stage: Stage,
        version: int,
        bundle: str,
        *,
        percent: float,
        salt: str,
        release: int,
        after: int,
        offset: int,
        at: int,
        by: str,
    ) -> Rollout:
        """Begin a rollout, or bring it to another stage."""
        newest, known = self.current(model), self.rollout(model)
        if (release, after) != (newest.sequence if newest else 0, known.sequence if known else 0):
            raise Conflict(f"Somebody else has changed what is served of {model}.")
        sequence = len(self._rollouts) + 1
        latest = max((entry.at for entry in self.rollouts(model)), default=at)
        rollout = Rollout(
            sequence, model, stage, version, bundle, percent, salt, release, offset,
            max(at, latest), by,
        )  # fmt: skip
        self._rollouts.append(rollout)
        return rollout

    def rollout(self, model: str) -> Rollout | None:
        """Return the newest entry of a rollout."""
        entries = self.rollouts(model)
        return entries[-1] if entries else None

    def rollouts(self, model: str | None = None) -> list[Rollout]:
        """Return every entry of every rollout, oldest first."""
        return [entry for entry in self._rollouts if model in (None, entry.model)]

    def acknowledge(
        self, worker: str, model: str, sequence: int, now: int, rollout: int = 0
    ) -> None:
        """Keep which release and rollout a gateway worker follows, and that it lives."""
        self._workers[worker, model] = (sequence, rollout, now)

    def serving(self, model: str, since: int) -> dict[str, int]:
        """Return the release sequence of each worker alive after ``since`` (µs)."""
        return {worker: release for worker, release, _ in self._alive(model, since)}

    def following(self, model: str, since: int) -> dict[str, int]:
        """Return the rollout sequence of each worker alive after ``since`` (µs)."""
        return {worker: rollout for worker, _, rollout in self._alive(model, since)}

    def _alive(self, model: str, since: int) -> list[tuple[str, int, int]]:
        return [
            (worker, release, rollout)
            for (worker, served), (release, rollout, seen) in sorted(self._workers.items())
            if served == model and seen > since
        ]


class InMemoryRegistry:
    """`ModelRegistry` in lists. It keeps no files; ``runs`` is what was said of each."""

    def __init__(self) -> None:
        self.runs: list[dict[str, object]] = []
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def register(
        self,
        model: str,
        bundle: str,
        folder: Path,
        *,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> ModelVersion:
        """Record a training run and number its bundle; a bundle's second try returns its first."""
        versions = self._versions.setdefault(model, [])
        for known in versions:
            if known.bundle == bundle:
                return known
        self.runs.append(
            {"folder": folder, "params": {**params}, "metrics": {**metrics}, "tags": {**tags}}
        )
        number = len(versions) + 1
        version = ModelVersion(model, number, bundle, f"run-{len(self.runs)}", number)
        versions.append(version)
        return version

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``champion`` or ``challenger`` at a version."""
        if self.get(model, version) is None:
            raise UnknownName(f"Model {model} has no version {version}.")
        self._aliases[model, alias] = version

    def get(self, model: str, version: int | str) -> ModelVersion | None:
        """Return a version by number or alias."""
        number = self._aliases.get((model, version)) if isinstance(version, str) else version
        return next((known for known in self.versions(model) if known.version == number), None)

    def versions(self, model: str) -> list[ModelVersion]:
        """Return every version, oldest first."""
        return list(self._versions.get(model, []))


class LinearScorer:
    """`Scorer` that adds its columns up, each with a weight."""

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        self._weights = weights

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the sum of each row; NaN where one of its columns is missing."""
        fits = matrix.ndim == 2 and matrix.shape[1] == len(self._weights)
        if matrix.dtype != np.float32 or not fits or not matrix.flags.c_contiguous:
            raise ModelError(f"The matrix {matrix.dtype} {matrix.shape} does not fit.")
        return matrix.astype(np.float64) @ self._weights


class LinearLoader:
    """`ScorerLoader` of a JSON list of weights, in the place of LightGBM's."""

    format = "lightgbm-text/1"
    waits = False

    def load(self, data: bytes, columns: int) -> LinearScorer:
        """Load the weights."""
        try:
            weights = np.array(json.loads(data), np.float64)
        except (ValueError, TypeError) as error:
            raise ModelError(f"These are no weights: {error}.") from error
        if weights.shape != (columns,):
            raise ModelError(f"There are {weights.shape} weights for {columns} columns.")
        return LinearScorer(weights)

    def column_names(self, data: bytes) -> tuple[str, ...]:  # noqa: ARG002  it has only numbers
        """Return nothing."""
        return ()
