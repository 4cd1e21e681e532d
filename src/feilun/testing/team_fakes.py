"""Teams in memory, for tests of what calls the gateway."""

from __future__ import annotations

from collections.abc import Sequence

from feilun.clock import to_iso
from feilun.errors import Conflict, UnknownName
from feilun.ports.teams import AuditEntry, Directory, Key, KeyUse, NewKey, Team, Usage


class InMemoryTeams:
    """`TeamStore` in dictionaries. ``failure``, while it is set, is what every call raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._teams: dict[str, Team] = {}
        self._keys: list[Key] = []
        self._usage: dict[tuple[int, str, str, str, int], int] = {}
        self._entries: list[AuditEntry] = []

    def add(
        self, name: str, scopes: Sequence[str], quota: float, key: NewKey, *, at: int, by: str
    ) -> Team:
        """Make a team with its first key; one that was revoked comes back with what is given."""
        self._check()
        known = self._teams.get(name)
        if known is not None and known.revoked is None:
            raise Conflict(f"The team {name} exists.")
        number, created = (known.number, known.created) if known else (len(self._teams) + 1, at)
        team = Team(number, name, tuple(scopes), quota, created)
        self._teams[name] = team
        self._keys.append(Key(key.id, name, key.digest, at, key.expires))
        self._note(at, by, "team add", name, f"key {key.id}, {_described(team)}")
        return team

    def change(
        self, name: str, scopes: Sequence[str] | None, quota: float | None, *, at: int, by: str
    ) -> Team:
        """Give a team other scopes, another quota, or both; its keys stay."""
        self._check()
        team = self._living(name)
        if scopes is not None:
            team = team._replace(scopes=tuple(scopes))
        if quota is not None:
            team = team._replace(quota=quota)
        self._teams[name] = team
        self._note(at, by, "team change", name, _described(team))
        return team

    def rotate(self, name: str, key: NewKey, *, until: int | None, at: int, by: str) -> Team:
        """Give a team a new key; the others end at ``until`` at the latest, or now."""
        self._check()
        team = self._living(name)
        if until is None:
            self._revoke_keys(name, at)
        else:
            self._keys = [
                k._replace(expires=until if k.expires is None else min(k.expires, until))
                if k.team == name and k.revoked is None
                else k
                for k in self._keys
            ]
        self._keys.append(Key(key.id, name, key.digest, at, key.expires))
        end = "now" if until is None else to_iso(until)
        self._note(at, by, "team rotate", name, f"key {key.id}; the others end {end}")
        return team

    def revoke(self, name: str, *, at: int, by: str) -> Team:
        """Take all keys of a team away, at once."""
        self._check()
        if name not in self._teams:
            raise UnknownName(f"There is no team {name!r}.")
        team = self._teams[name]
        if team.revoked is None:
            team = self._teams[name] = team._replace(revoked=at)
            self._revoke_keys(name, at)
            self._note(at, by, "team revoke", name, "all its keys")
        return team

    def load(self) -> Directory:
        """Return everything that is known of teams and keys."""
        self._check()
        teams = tuple(team for _, team in sorted(self._teams.items()))
        return Directory(teams, tuple(sorted(self._keys, key=lambda k: (k.created, k.id))))

    def record(self, usage: Sequence[Usage], uses: Sequence[KeyUse]) -> None:
        """Add to what was used, and audit uses of keys."""
        self._check()
        for *names, requests in usage:
            key = tuple(names)
            self._usage[key] = self._usage.get(key, 0) + requests  # type: ignore[index,arg-type]
        noted = {(e.at, e.by, e.detail) for e in self._entries if e.action == "use"}
        for use in uses:
            if (use.minute, use.key, use.route) not in noted:
                self._note(use.minute, use.key, "use", use.team, use.route)

    def note(self, action: str, subject: str, detail: str, *, at: int, by: str) -> None:
        """Audit an act on something that is kept elsewhere."""
        self._check()
        self._note(at, by, action, subject, detail)

    def usage(self, since: int = 0) -> list[Usage]:
        """Return what was used from the day ``since`` on."""
        self._check()
        return [
            Usage(*names, requests)
            for names, requests in sorted(self._usage.items())
            if names[0] >= since
        ]

    def audit(self, limit: int) -> list[AuditEntry]:
        """Return the last ``limit`` entries, oldest first."""
        self._check()
        return self._entries[-limit:]

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _living(self, name: str) -> Team:
        team = self._teams.get(name)
        if team is None or team.revoked is not None:
            raise UnknownName(f"There is no team {name!r}, or it is revoked.")
        return team

    def _revoke_keys(self, name: str, at: int) -> None:
        self._keys = [
            k._replace(revoked=at) if k.team == name and k.revoked is None else k
            for k in self._keys
        ]

    def _note(self, at: int, by: str, action: str, subject: str, detail: str) -> None:
        number = len(self._entries) + 1
        self._entries.append(AuditEntry(number, at, by, action, subject, detail))


def _described(team: Team) -> str:
    return f"may call {', '.join(team.scopes)} at {team.quota:g}/s"
