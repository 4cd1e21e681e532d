"""Teams: who may call the gateway, with which keys, how much they used, and who changed what.

The commands of ``feilun team`` write it. Gateway workers follow it, and add what was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Team(NamedTuple):
    """Who may call what, and how often.

    ``number`` is never given to another team. ``scopes`` name capabilities, views and ``events``.
    ``quota`` is in requests per second. ``revoked`` (µs UTC) is None while the team may call.
    """

    number: int
    name: str
    scopes: tuple[str, ...]
    quota: float
    created: int
    revoked: int | None = None


class Key(NamedTuple):
    """A key as it is stored: without its secret.

    ``digest`` is SHA-256 of the whole key. ``expires`` and ``revoked`` are µs UTC, or None. A key
    that is revoked is so at once, whatever the clocks say.
    """

    id: str
    team: str
    digest: bytes
    created: int
    expires: int | None = None
    revoked: int | None = None


class Directory(NamedTuple):
    """All teams that ever were, by name, and all their keys, oldest first."""

    teams: tuple[Team, ...] = ()
    keys: tuple[Key, ...] = ()


class NewKey(NamedTuple):
    """A key that was just made, to be stored; its secret stays with whoever made it."""

    id: str
    digest: bytes
    expires: int | None = None


class Usage(NamedTuple):
    """What a team used of a scope on a day (days since 1970-01-01 UTC).

    ``model`` and ``version`` say what scored; empty and 0 where no model did.
    """

    day: int
    team: str
    scope: str
    model: str
    version: int
    requests: int


class KeyUse(NamedTuple):
    """A key was used on a route in the minute that began at ``minute`` (µs UTC).

    ``key`` is a key's id, or ``local`` for the token of this machine; ``team`` is empty then.
    """

    minute: int
    key: str
    team: str
    route: str


class AuditEntry(NamedTuple):
    """Something that was done. ``subject`` is to whom or what; ``detail`` says how."""

    number: int
    at: int
    by: str
    action: str
    subject: str
    detail: str


class TeamStore(Protocol):
    """Teams, their keys, their usage, and the audit log. Each act is audited in its transaction."""

    def add(
        self, name: str, scopes: Sequence[str], quota: float, key: NewKey, *, at: int, by: str
    ) -> Team:
        """Make a team with its first key; one that was revoked comes back with what is given.

        Called by ``feilun team add``. Not idempotent: the second try is told that it exists.

        Raises
        ------
        Conflict
            If the team exists and is not revoked.
        """
        ...

    def change(
        self, name: str, scopes: Sequence[str] | None, quota: float | None, *, at: int, by: str
    ) -> Team:
        """Give a team other scopes, another quota, or both; its keys stay.

        Called by ``feilun team change``. Idempotent, but each call is audited.

        Raises
        ------
        UnknownName
            If there is no such team, or it is revoked.
        """
        ...

    def rotate(self, name: str, key: NewKey, *, until: int | None, at: int, by: str) -> Team:
        """Give a team a new key. The others end at ``until`` (µs UTC) at the latest; None: now.

        Called by ``feilun team rotate``. Not idempotent: each call makes a key.

        Raises
        ------
        UnknownName
            If there is no such team, or it is revoked.
        """
        ...

    def revoke(self, name: str, *, at: int, by: str) -> Team:
        """Take all keys of a team away, at once.

        Called by ``feilun team revoke``. Idempotent: the second call changes and audits nothing.

        Raises
        ------
        UnknownName
            If there is no such team.
        """
        ...

    def load(self) -> Directory:
        """Return everything that is known of teams and keys.

        Polled by every gateway worker, some five times a second: cheap while nothing changes, and
        never waiting for a writer.

        Raises
        ------
        FeilunError
            If it cannot be read; also if the store is gone from its place.
        """
        ...

    def record(self, usage: Sequence[Usage], uses: Sequence[KeyUse]) -> None:
        """Add to what was used, and audit uses of keys, in one transaction.

        Called by every gateway worker, every two seconds while it is used, and when it stops. Usage
        is added to what is there, so it is not idempotent; a use that is there already is not
        audited again. Durable when it returns.
        """
        ...

    def note(self, action: str, subject: str, detail: str, *, at: int, by: str) -> None:
        """Audit an act on something that is kept elsewhere.

        Called by ``feilun erase``. Not idempotent: each call is an entry.
        """
        ...

    def usage(self, since: int = 0) -> list[Usage]:
        """Return what was used from the day ``since`` on, by day, team, scope, model, version.

        Called by ``feilun team usage``.
        """
        ...

    def audit(self, limit: int) -> list[AuditEntry]:
        """Return the last ``limit`` entries, oldest first.

        Called by ``feilun audit``.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
