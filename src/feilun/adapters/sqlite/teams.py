"""`TeamStore` on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from feilun.adapters.sqlite.audit import audit
from feilun.adapters.sqlite.database import Database
from feilun.clock import to_iso
from feilun.errors import Conflict, UnknownName
from feilun.i18n import _
from feilun.ports.teams import AuditEntry, Directory, Key, KeyUse, NewKey, Team, Usage

_TEAM = "SELECT number, name, scopes, quota, created, revoked FROM teams"
_KEY = (
    "SELECT keys.id, name, digest, keys.created, expires, keys.revoked"
    " FROM keys JOIN teams ON team = number"
)


class SqliteTeams:
    """Teams, keys, usage and the audit log, in ``platform.db``; see `feilun.ports.teams.TeamStore`.

    Parameters
    ----------
    path : Path
        The database file; shared with the other stores of ``platform.db``.
    new : bool
        Whether it is made where it is missing; see `Database`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._database = Database(path, new=new)
        self._known: tuple[tuple[int, int], Directory] | None = None

    def add(
        self, name: str, scopes: Sequence[str], quota: float, key: NewKey, *, at: int, by: str
    ) -> Team:
        """Make a team with its first key; one that was revoked comes back with what is given."""
        self._known = None
        with self._database.write() as db:
            found = _find(db, name)
            if found is not None and found.revoked is None:
                raise Conflict(
                    _("There is a team {name} already.", name=name),
                    _(
                        "Another key: feilun team rotate {name}; other scopes: feilun team change "
                        "{name}",
                        name=name,
                    ),
                )
            db.execute(
                "INSERT INTO teams (name, scopes, quota, created) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET scopes = excluded.scopes,"
                " quota = excluded.quota, revoked = NULL",
                (name, " ".join(scopes), quota, at),
            )
            team = _living(db, name)
            _insert_key(db, team, key, at)
            detail = f"key {key.id}, {_described(team)}"
            audit(db, at=at, by=by, action="team add", subject=name, detail=detail)
            return team

    def change(
        self, name: str, scopes: Sequence[str] | None, quota: float | None, *, at: int, by: str
    ) -> Team:
        """Give a team other scopes, another quota, or both; its keys stay."""
        self._known = None
        with self._database.write() as db:
            _living(db, name)
            db.execute(
                "UPDATE teams SET scopes = coalesce(?, scopes), quota = coalesce(?, quota)"
                " WHERE name = ?",
                (None if scopes is None else " ".join(scopes), quota, name),
            )
            team = _living(db, name)
            detail = _described(team)
            audit(db, at=at, by=by, action="team change", subject=name, detail=detail)
            return team

    def rotate(self, name: str, key: NewKey, *, until: int | None, at: int, by: str) -> Team:
        """Give a team a new key; the others end at ``until`` at the latest, or now."""
        self._known = None
        with self._database.write() as db:
            team = _living(db, name)
            if until is None:
                _revoke_keys(db, team, at)
            else:
                db.execute(
                    "UPDATE keys SET expires = min(coalesce(expires, ?1), ?1)"
                    " WHERE team = ?2 AND revoked IS NULL",
                    (until, team.number),
                )
            _insert_key(db, team, key, at)
            end = "now" if until is None else to_iso(until)
            detail = f"key {key.id}; the others end {end}"
            audit(db, at=at, by=by, action="team rotate", subject=name, detail=detail)
            return team

    def revoke(self, name: str, *, at: int, by: str) -> Team:
        """Take all keys of a team away, at once."""
        self._known = None
        with self._database.write() as db:
            found = _find(db, name)
            if found is None:
                raise _unknown(name)
            if found.revoked is not None:
                return found
            db.execute("UPDATE teams SET revoked = ? WHERE number = ?", (at, found.number))
            _revoke_keys(db, found, at)
            audit(db, at=at, by=by, action="team revoke", subject=name, detail="all its keys")
            return found._replace(revoked=at)

    def load(self) -> Directory:
        """Return everything that is known of teams and keys, read again if the file has changed."""
        state = self._database.state()
        if self._known is None or self._known[0] != state:
            teams = tuple(_team(row) for row in self._database.read(f"{_TEAM} ORDER BY name"))
            keys = self._database.read(f"{_KEY} ORDER BY keys.created, keys.id")
            found = Directory(teams, tuple(Key(*row) for row in keys))
            self._known = (state, found)
        return self._known[1]

    def record(self, usage: Sequence[Usage], uses: Sequence[KeyUse]) -> None:
        """Add to what was used, and audit uses of keys, in one transaction."""
        if not usage and not uses:
            return
        with self._database.write() as db:
            db.executemany(
                'INSERT INTO "usage" VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET'
                " requests = requests + excluded.requests",
                usage,
            )
            for use in uses:
                audit(
                    db, at=use.minute, by=use.key, action="use", subject=use.team, detail=use.route
                )

    def note(self, action: str, subject: str, detail: str, *, at: int, by: str) -> None:
        """Audit an act on something that is kept elsewhere."""
        with self._database.write() as db:
            audit(db, at=at, by=by, action=action, subject=subject, detail=detail)

    def usage(self, since: int = 0) -> list[Usage]:
        """Return what was used from the day ``since`` on."""
        rows = self._database.read(
            'SELECT * FROM "usage" WHERE day >= ? ORDER BY day, team, scope, model, version', since
        )
        return [Usage(*row) for row in rows]

    def audit(self, limit: int) -> list[AuditEntry]:
        """Return the last ``limit`` entries, oldest first."""
        rows = self._database.read(
            'SELECT number, at, "by", action, subject, detail FROM audit'
            " ORDER BY number DESC LIMIT ?",
            limit,
        )
        return [AuditEntry(*row) for row in reversed(rows)]

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()


def _team(row: tuple[int, str, str, float, int, int | None]) -> Team:
    number, name, scopes, quota, created, revoked = row
    return Team(number, name, tuple(scopes.split()), quota, created, revoked)


def _find(db: sqlite3.Connection, name: str) -> Team | None:
    row = db.execute(f"{_TEAM} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _team(row)


def _living(db: sqlite3.Connection, name: str) -> Team:
    found = _find(db, name)
    if found is None:
        raise _unknown(name)
    if found.revoked is not None:
        raise UnknownName(
            _("The team {name} is revoked.", name=name), _("Add it again to give it a key.")
        )
    return found


def _unknown(name: str) -> UnknownName:
    return UnknownName(
        _("There is no team {name}.", name=repr(name)), _("feilun team list shows them all.")
    )


def _insert_key(db: sqlite3.Connection, team: Team, key: NewKey, at: int) -> None:
    db.execute(
        "INSERT INTO keys (id, team, digest, created, expires) VALUES (?, ?, ?, ?, ?)",
        (key.id, team.number, key.digest, at, key.expires),
    )


def _revoke_keys(db: sqlite3.Connection, team: Team, at: int) -> None:
    db.execute("UPDATE keys SET revoked = ? WHERE team = ? AND revoked IS NULL", (at, team.number))


def _described(team: Team) -> str:
    return f"may call {', '.join(team.scopes)} at {team.quota:g}/s"
