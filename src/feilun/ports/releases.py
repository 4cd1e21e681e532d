"""Releases: which version of each model is in production, what is tried beside it, and the history.

Append-only. The gateway follows it; the flywheel, ``feilun rollback`` and ``feilun rollout`` write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

Action = Literal["promote", "rollback", "adopt"]
"""Why a version came into production: a turn, a step back, or somebody else trained it."""


class Release(NamedTuple):
    """One entry of the history: from ``offset`` on, ``version`` of ``model`` is in production."""

    sequence: int
    model: str
    version: int
    bundle: str
    action: Action
    offset: int
    at: int
    turn: int | None
    by: str


Stage = Literal["off", "shadow", "canary", "full"]
"""How far a challenger has come: ``off`` ends a rollout; ``shadow`` answers nobody."""


class Rollout(NamedTuple):
    """One entry of a rollout: from ``offset`` on, ``version`` is tried beside the champion.

    ``percent`` of the units (0 in shadow, 100 when full) get the challenger, chosen by ``salt``:
    see ``feilun.records.split``. The entries of one rollout have one salt. ``release`` is the
    sequence of the release that it was begun beside, 0 if nothing was in production.
    """

    sequence: int
    model: str
    stage: Stage
    version: int
    bundle: str
    percent: float
    salt: str
    release: int
    offset: int
    at: int
    by: str


def going_on(rollout: Rollout | None, release: Release | None) -> Rollout | None:
    """Return the rollout if it goes on beside ``release``: not stopped, nor ended by a later one.

    A promotion or a rollback ends a rollout by being newer: no second write could be lost.
    """
    beside = 0 if release is None else release.sequence
    if rollout is None or rollout.stage == "off" or rollout.release != beside:
        return None
    return rollout


def replaced(entries: Sequence[Release], release: Release) -> Release | None:
    """Return what was in production just before ``release``, if it was another version.

    ``entries`` is the history of its model, oldest first.
    """
    earlier = [
        entry
        for entry in entries
        if entry.sequence < release.sequence and entry.version != release.version
    ]
    return earlier[-1] if earlier else None


def step_back(entries: Sequence[Release]) -> Release | None:
    """Return what a rollback would put in production again; None if there is nothing.

    It is what the version in production replaced when it first came, so that two rollbacks go back
    two versions. ``entries`` is the history of one model, oldest first.
    """
    if not entries:
        return None
    first = next(entry for entry in entries if entry.version == entries[-1].version)
    return replaced(entries, first)


class ReleaseHistory(Protocol):
    """What is and was in production, and what was tried beside it."""

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
        """Put a version in production.

        Called by the flywheel at the end of a turn, by ``feilun rollback`` and by
        ``feilun adopt``. Idempotent by (model, turn): a turn's second try returns its first
        entry; without a turn each call is an entry. Durable when it returns.

        Raises
        ------
        Fenced
            If ``fence`` is given and the turn is held under a newer one; nothing is changed.
        Conflict
            If ``after`` is given, the sequence of the newest release that the caller knows (0
            without one), and there is a newer one; nothing is changed.
        """
        ...

    def current(self, model: str) -> Release | None:
        """Return what is in production: the newest entry; None before the first.

        Polled by every gateway worker, some twenty times a second: a read that never waits for a
        writer. What it names is loaded by its digest alone, and is verified before it is parsed.
        """
        ...

    def at(self, model: str, time: int) -> Release | None:
        """Return what was in production at ``time`` (µs UTC)."""
        ...

    def entries(self, model: str | None = None) -> list[Release]:
        """Return the whole history, oldest first."""
        ...

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
        """Begin a rollout, or bring it to another stage.

        Called by ``feilun rollout``, and by whatever drives a rollout by itself. Each call is an
        entry. Durable when it returns. ``release`` and ``after`` are the sequences of the newest
        release and of the newest entry of a rollout that the caller knows, 0 without one.

        Raises
        ------
        Conflict
            If there are newer ones: somebody promoted, rolled back or stopped in the meantime, and
            must not be overruled by one who does not know. Nothing is changed.
        """
        ...

    def rollout(self, model: str) -> Rollout | None:
        """Return the newest entry of a rollout, whether it goes on or not; None before the first.

        Polled as often as `current`, and before it: a release that comes between the two ends what
        was read (`going_on`).
        """
        ...

    def rollouts(self, model: str | None = None) -> list[Rollout]:
        """Return every entry of every rollout, oldest first."""
        ...

    def acknowledge(
        self, worker: str, model: str, sequence: int, now: int, rollout: int = 0
    ) -> None:
        """Keep which release and which rollout a gateway worker follows; also its sign of life.

        Called after each swap, and about once a second; ``sequence`` is 0 before the first
        release of ``model``, so that a promotion knows of every worker it must wait for.
        ``rollout`` is the sequence of the newest entry of a rollout that it acts on. ``now`` is the
        worker's clock (µs UTC).
        Idempotent: the last call for (worker, model) counts.
        """
        ...

    def serving(self, model: str, since: int) -> dict[str, int]:
        """Return the release sequence each worker serves, of those alive after ``since`` (µs).

        Called by the flywheel after a promotion, until every live worker has taken it up.
        """
        ...

    def following(self, model: str, since: int) -> dict[str, int]:
        """Return the rollout sequence each worker acts on, of those alive after ``since`` (µs).

        Called by ``feilun rollout`` until every live worker has taken an entry up.
        """
        ...
