"""Releases: which version of each model is in production, and the history of that.

Append-only. The gateway follows it; the flywheel and ``feilun rollback`` write it.
"""

from __future__ import annotations

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


class ReleaseHistory(Protocol):
    """What is and was in production."""

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
    ) -> Release:
        """Put a version in production.

        Called by the flywheel at the end of a turn, by ``feilun rollback`` and by
        ``feilun adopt``. Idempotent by (model, turn): a turn's second try returns its first
        entry; without a turn each call is an entry. Durable when it returns.

        Raises
        ------
        Fenced
            If ``fence`` is given and the turn is held under a newer one; nothing is changed.
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

    def acknowledge(self, worker: str, model: str, sequence: int, now: int) -> None:
        """Keep which release a gateway worker serves; also its sign of life.

        Called after each swap, and about once a second; ``sequence`` is 0 before the first
        release of ``model``, so that a promotion knows of every worker it must wait for. ``now``
        is the worker's clock (µs UTC).
        Idempotent: the last call for (worker, model) counts.
        """
        ...

    def serving(self, model: str, since: int) -> dict[str, int]:
        """Return the release sequence each worker serves, of those alive after ``since`` (µs).

        Called by the flywheel after a promotion, until every live worker has taken it up.
        """
        ...
