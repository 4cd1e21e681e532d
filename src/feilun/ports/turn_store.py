"""Turns: what the flywheel did, step by step, so that any of it can be resumed."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

TurnState = Literal["running", "promoted", "rejected", "failed"]


class Turn(NamedTuple):
    """One turn of one model's loop. ``cut`` is the log offset (exclusive) that it may look at."""

    id: int
    model: str
    trigger: str
    cut: int
    state: TurnState
    started: int
    ended: int | None


class Step(NamedTuple):
    """One finished step: its input's digest and its output."""

    name: str
    input_digest: str
    output: dict[str, Any]
    seconds: float


class TurnStore(Protocol):
    """Rows of turns and steps, with a lease and a fence for each turn."""

    def open(self, model: str, trigger: str, cut: int, now: int) -> Turn:
        """Begin a turn, or return the one of the same (model, cut). Idempotent."""
        ...

    def claim(self, turn: int, owner: str, now: int, lease: int) -> int:
        """Take the turn for ``lease`` µs and return its fence (each claim's is larger).

        Called before each step, which renews the lease. Raises Fenced while another owner's
        lease runs, UnknownName if there is no such turn.
        """
        ...

    def save_step(self, turn: int, step: Step, fence: int) -> None:
        """Keep a finished step. Raises Fenced if a newer claim exists.

        Idempotent by (name, input digest): the first output stands. Another input digest replaces
        the step, in its place.
        """
        ...

    def steps(self, turn: int) -> list[Step]:
        """Return the finished steps, in order."""
        ...

    def finish(self, turn: int, state: TurnState, now: int, fence: int) -> None:
        """End the turn. Raises Fenced if a newer claim exists.

        An end is final: the same again changes nothing, another raises Conflict.
        """
        ...

    def get(self, turn: int) -> Turn | None:
        """Return a turn."""
        ...

    def turns(self, model: str | None = None) -> list[Turn]:
        """Return all turns, oldest first."""
        ...

    def note_examined(self, model: str, offset: int) -> None:
        """Remember that triggers have been looked at up to ``offset`` (exclusive).

        Never moves back.
        """
        ...

    def examined(self, model: str) -> int:
        """Return how far triggers have been looked at; 0 at first."""
        ...
