"""`TurnStore` on SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from feilun.adapters.sqlite.database import Database
from feilun.errors import Conflict, Fenced, UnknownName
from feilun.ports.turn_store import Step, Turn, TurnState

_TURN = "SELECT id, model, trigger, cut, state, started, ended FROM turns"


class SqliteTurns:
    """Rows of turns and steps in ``platform.db``; see `feilun.ports.turn_store.TurnStore`.

    Parameters
    ----------
    path : Path
        The database file; shared with `SqliteReleases`.
    new : bool
        Whether it is made where it is missing; see `Database`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._database = Database(path, new=new)

    def open(self, model: str, trigger: str, cut: int, now: int) -> Turn:
        """Begin a turn, or return the one of the same (model, cut)."""
        with self._database.write() as db:
            query = f"{_TURN} WHERE model = ? AND cut = ?"
            row = db.execute(query, (model, cut)).fetchone()
            if row is None:
                db.execute(
                    "INSERT INTO turns (model, trigger, cut, state, started)"
                    " VALUES (?, ?, ?, 'running', ?)",
                    (model, trigger, cut, now),
                )
                row = db.execute(query, (model, cut)).fetchone()
            return Turn(*row)

    def claim(self, turn: int, owner: str, now: int, lease: int) -> int:
        """Take the turn for ``lease`` µs and return its fence."""
        with self._database.write() as db:
            row = db.execute(
                "SELECT owner, lease_until, fence FROM turns WHERE id = ?", (turn,)
            ).fetchone()
            if row is None:
                raise UnknownName(f"There is no turn {turn}.", "List them: feilun history")
            holder, lease_until, fence = row
            if lease_until > now and holder != owner:
                seconds = (lease_until - now) / 1e6
                raise Fenced(f"Turn {turn} is held by {holder} for another {seconds:.0f} s.")
            db.execute(
                "UPDATE turns SET owner = ?, lease_until = ?, fence = ? WHERE id = ?",
                (owner, now + lease, fence + 1, turn),
            )
            return int(fence) + 1

    def save_step(self, turn: int, step: Step, fence: int) -> None:
        """Keep a finished step."""
        with self._database.write() as db:
            check_fence(db, turn, fence)
            db.execute(
                "INSERT INTO steps (turn, position, name, input_digest, output, seconds)"
                " VALUES (?, (SELECT coalesce(max(position), 0) + 1 FROM steps WHERE turn = ?),"
                " ?, ?, ?, ?) ON CONFLICT (turn, name) DO UPDATE SET"
                " input_digest = excluded.input_digest, output = excluded.output,"
                " seconds = excluded.seconds WHERE input_digest != excluded.input_digest",
                (
                    turn,
                    turn,
                    step.name,
                    step.input_digest,
                    msgspec.json.encode(step.output).decode(),
                    step.seconds,
                ),
            )

    def steps(self, turn: int) -> list[Step]:
        """Return the finished steps, in order."""
        rows = self._database.read(
            "SELECT name, input_digest, output, seconds FROM steps WHERE turn = ?"
            " ORDER BY position",
            turn,
        )
        return [
            Step(name, input_digest, msgspec.json.decode(output), seconds)
            for name, input_digest, output, seconds in rows
        ]

    def finish(self, turn: int, state: TurnState, now: int, fence: int) -> None:
        """End the turn."""
        with self._database.write() as db:
            check_fence(db, turn, fence)
            found = db.execute("SELECT state FROM turns WHERE id = ?", (turn,)).fetchone()[0]
            if found == state:
                return
            if found != "running":
                raise Conflict(f"Turn {turn} has ended as {found}; it cannot become {state}.")
            db.execute(
                "UPDATE turns SET state = ?, ended = ?, lease_until = 0 WHERE id = ?",
                (state, now, turn),
            )

    def get(self, turn: int) -> Turn | None:
        """Return a turn."""
        rows = self._database.read(f"{_TURN} WHERE id = ?", turn)
        return Turn(*rows[0]) if rows else None

    def turns(self, model: str | None = None) -> list[Turn]:
        """Return all turns, oldest first."""
        rows = self._database.read(f"{_TURN} WHERE ?1 IS NULL OR model = ?1 ORDER BY id", model)
        return [Turn(*row) for row in rows]

    def note_examined(self, model: str, offset: int) -> None:
        """Remember that triggers have been looked at up to ``offset``; never moves back."""
        with self._database.write() as db:
            db.execute(
                'INSERT INTO examined (model, "offset") VALUES (?, ?) ON CONFLICT (model)'
                ' DO UPDATE SET "offset" = max("offset", excluded."offset")',
                (model, offset),
            )

    def examined(self, model: str) -> int:
        """Return how far triggers have been looked at; 0 at first."""
        rows = self._database.read('SELECT "offset" FROM examined WHERE model = ?', model)
        return int(rows[0][0]) if rows else 0

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()


def check_fence(db: sqlite3.Connection, turn: int, fence: int) -> None:
    """Raise Fenced if ``turn`` has been claimed since ``fence`` was given; within a write."""
    row = db.execute("SELECT fence FROM turns WHERE id = ?", (turn,)).fetchone()
    if row is None or row[0] != fence:
        raise Fenced(
            f"Turn {turn} has been taken over by another controller.", "This one must stop."
        )
