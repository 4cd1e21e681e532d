"""`ReleaseHistory` on SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

from feilun.adapters.sqlite.audit import audit
from feilun.adapters.sqlite.database import Database
from feilun.adapters.sqlite.turns import check_fence
from feilun.errors import Conflict
from feilun.i18n import _
from feilun.ports.releases import Action, Release, Rollout, Stage

_RELEASE = 'SELECT sequence, model, version, bundle, action, "offset", at, turn, "by" FROM releases'
_ROLLOUT = (
    "SELECT sequence, model, stage, version, bundle, percent, salt, release,"
    ' "offset", at, "by" FROM rollouts'
)


class SqliteReleases:
    """What is and was in production, in ``platform.db``; see `ReleaseHistory`.

    Parameters
    ----------
    path : Path
        The database file; shared with `SqliteTurns`, whose fences it compares.
    new : bool
        Whether it is made where it is missing; see `Database`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._database = Database(path, new=new)

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
        with self._database.write() as db:
            if turn is not None and fence is not None:
                check_fence(db, turn, fence)
            if after is not None and _newest(db, model) != after:
                raise _overtaken(model)
            row = db.execute(f"{_RELEASE} WHERE model = ? AND turn = ?", (model, turn)).fetchone()
            if row is None:
                # A clock that steps back must not reorder the history.
                sequence = db.execute(
                    "INSERT INTO releases VALUES (NULL, ?1, ?2, ?3, ?4, ?5,"
                    " max(?6, coalesce((SELECT max(at) FROM releases WHERE model = ?1), ?6)),"
                    " ?7, ?8)",
                    (model, version, bundle, action, offset, at, turn, by),
                ).lastrowid
                row = db.execute(f"{_RELEASE} WHERE sequence = ?", (sequence,)).fetchone()
                detail = f"version {version}, bundle {bundle}"
                audit(db, at=at, by=by, action=action, subject=model, detail=detail)
            return Release(*row)

    def current(self, model: str) -> Release | None:
        """Return what is in production."""
        rows = self._database.read(
            f"{_RELEASE} WHERE model = ? ORDER BY sequence DESC LIMIT 1", model
        )
        return Release(*rows[0]) if rows else None

    def at(self, model: str, time: int) -> Release | None:
        """Return what was in production at ``time`` (µs UTC)."""
        rows = self._database.read(
            f"{_RELEASE} WHERE model = ? AND at <= ? ORDER BY sequence DESC LIMIT 1", model, time
        )
        return Release(*rows[0]) if rows else None

    def entries(self, model: str | None = None) -> list[Release]:
        """Return the whole history, oldest first."""
        rows = self._database.read(
            f"{_RELEASE} WHERE ?1 IS NULL OR model = ?1 ORDER BY sequence", model
        )
        return [Release(*row) for row in rows]

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
        with self._database.write() as db:
            if (_newest(db, model), _newest(db, model, "rollouts")) != (release, after):
                raise _overtaken(model)
            sequence = db.execute(
                "INSERT INTO rollouts VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8,"
                " max(?9, coalesce((SELECT max(at) FROM rollouts WHERE model = ?1), ?9)), ?10)",
                (model, stage, version, bundle, float(percent), salt, release, offset, at, by),
            ).lastrowid
            row = db.execute(f"{_ROLLOUT} WHERE sequence = ?", (sequence,)).fetchone()
            detail = f"{stage}, version {version}, {percent:g} %, bundle {bundle}"
            audit(db, at=at, by=by, action="rollout", subject=model, detail=detail)
            return Rollout(*row)

    def rollout(self, model: str) -> Rollout | None:
        """Return the newest entry of a rollout."""
        rows = self._database.read(
            f"{_ROLLOUT} WHERE model = ? ORDER BY sequence DESC LIMIT 1", model
        )
        return Rollout(*rows[0]) if rows else None

    def rollouts(self, model: str | None = None) -> list[Rollout]:
        """Return every entry of every rollout, oldest first."""
        rows = self._database.read(
            f"{_ROLLOUT} WHERE ?1 IS NULL OR model = ?1 ORDER BY sequence", model
        )
        return [Rollout(*row) for row in rows]

    def acknowledge(
        self, worker: str, model: str, sequence: int, now: int, rollout: int = 0
    ) -> None:
        """Keep which release and rollout a gateway worker follows, and that it lives."""
        with self._database.write() as db:
            db.execute(
                "INSERT INTO workers (worker, model, sequence, seen, rollout)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (worker, model) DO UPDATE SET"
                " sequence = excluded.sequence, seen = excluded.seen, rollout = excluded.rollout",
                (worker, model, sequence, now, rollout),
            )

    def serving(self, model: str, since: int) -> dict[str, int]:
        """Return the release sequence of each worker alive after ``since`` (µs)."""
        return dict(
            self._database.read(
                "SELECT worker, sequence FROM workers WHERE model = ? AND seen > ? ORDER BY worker",
                model,
                since,
            )
        )

    def following(self, model: str, since: int) -> dict[str, int]:
        """Return the rollout sequence of each worker alive after ``since`` (µs)."""
        return dict(
            self._database.read(
                "SELECT worker, rollout FROM workers WHERE model = ? AND seen > ? ORDER BY worker",
                model,
                since,
            )
        )

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()


def _newest(
    db: sqlite3.Connection, model: str, table: Literal["releases", "rollouts"] = "releases"
) -> int:
    """Return the sequence of a model's newest entry; 0 without one."""
    row = db.execute(f"SELECT max(sequence) FROM {table} WHERE model = ?", (model,))  # noqa: S608
    return int(row.fetchone()[0] or 0)


def _overtaken(model: str) -> Conflict:
    return Conflict(
        _("Somebody else has changed what is served of {model} in the meantime.", model=model),
        _("Look at feilun history and feilun rollout show, then decide again."),
    )
