"""Releases: which version of each model is in production, and the history of that.

Append-only. The gateway follows it; the flywheel and ``feilun rollback`` write it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol


class Release(NamedTuple):
    """One entry of the history: from ``offset`` on, ``version`` of ``model`` is in production."""

    sequence: int
    model: str
    version: int
    bundle: str
    action: Literal["promote", "rollback"]
    offset: int
    at: int
    turn: int | None
    by: str


class ReleaseHistory(Protocol):
    """What is and was in production."""

    def append(
        self, model: str, version: int, bundle: str, *, action: Literal["promote", "rollback"],
        offset: int, at: int, turn: int | None, by: str, fence: int | None = None,
    ) -> Release:
        """Put a version in production.

        Idempotent by (model, turn): a turn's second try returns its first entry. With a
        ``fence``, raises Fenced if the turn is held under a newer one.
        """
        ...

    def current(self, model: str) -> Release | None:
        """Return what is in production. Polled by every gateway worker."""
        ...

    def at(self, model: str, time: int) -> Release | None:
        """Return what was in production at ``time`` (µs UTC)."""
        ...

    def entries(self, model: str | None = None) -> list[Release]:
        """Return the whole history, oldest first."""
        ...

    def acknowledge(self, worker: str, model: str, sequence: int, now: int) -> None:
        """A gateway worker says which release it serves; also its sign of life."""
        ...

    def serving(self, model: str, since: int) -> dict[str, int]:
        """Return the release sequence each worker serves, of those alive after ``since`` (µs)."""
        ...
