"""Who may call a route, and who calls: decided from a request's head, before its body is read.

Denied by default: a route cannot be made without saying who may call it, and whoever is not known
learns nothing of what is there.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote

from feilun.clock import Clock
from feilun.errors import ConfigError, InputError, UnknownName
from feilun.ports.teams import Team
from feilun.serving.access.keyring import Keyring
from feilun.serving.access.keys import holds_secret, is_token
from feilun.serving.access.quota import Quota
from feilun.serving.access.usage import Meter
from feilun.serving.http.caller import ANYBODY, LOCAL, Caller
from feilun.serving.http.exchange import OriginError, RequestHead, Response, TooMany, Unauthorized

LOGIN_PATH = "/docs"
"""Where a link with this machine's token leads."""
_BEARER = b"bearer "
_NEEDS_KEY = (
    "Send the header Authorization: Bearer KEY. Who has no key asks the platform's owner for one; "
    "the owner makes it with: feilun team add"
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a route: anybody, every team, a team that has ``scope``, or this machine alone.

    Whoever has this machine's token may call everything.
    """

    role: Literal["open", "teams", "scoped", "admin"]
    scope: str = ""

    def lets_in(self, scopes: Collection[str]) -> bool:
        """Say whether a team that has ``scopes`` may call the route."""
        return self.role in ("open", "teams") or (self.role == "scoped" and self.scope in scopes)


OPEN = Access("open")
TEAMS = Access("teams")
ADMIN = Access("admin")


def scoped(scope: str) -> Access:
    """Return the access of teams that have ``scope``."""
    return Access("scoped", scope)


class Guard:
    """Lets in who may come in.

    Parameters
    ----------
    keyring : Keyring
        The teams' keys.
    quota : Quota
        How often teams may call.
    meter : Meter
        Told of each key that is used.
    clock : Clock
        Says which keys have expired.
    token : str
        This machine's own, for everything.

    Raises
    ------
    ConfigError
        If ``token`` is not one.
    """

    def __init__(
        self, *, keyring: Keyring, quota: Quota, meter: Meter, clock: Clock, token: str
    ) -> None:
        self._keyring = keyring
        self._quota = quota
        self._meter = meter
        self._clock = clock
        if not is_token(token):  # an empty one would let everybody in
            raise ConfigError("The gateway has no token.", "Start it with feilun serve gateway.")
        self._token = token.encode()
        # The cookie is another secret than the token: browsers send it to every port of a host.
        self._cookie = hashlib.sha256(b"feilun cookie " + self._token).hexdigest()

    def admit(self, access: Access | None, head: RequestHead, path: str, route: str) -> Caller:
        """Return who calls, if they may.

        Parameters
        ----------
        access : Access or None
            What the route at ``path`` declares; None if there is no route.
        head : RequestHead
            What the headers say.
        path, route : str
            The path, and the route's name in counts.

        Raises
        ------
        Unauthorized
            If a key is needed and it is missing, unknown, expired or revoked.
        TooMany
            If the team has spent its quota.
        UnknownName
            If the team may not call this, or nothing is there; it is not told which.
        Unavailable
            If the keys have been unreadable for too long.
        """
        if access is not None and access.role == "open":
            return ANYBODY
        caller = self._identify(head)
        if caller.key:
            self._meter.key_used(caller, route)
        if caller.team is None:
            return caller
        self.spend(caller)
        _check_scope(caller.team, access, path)
        return caller

    def admit_again(self, access: Access, head: RequestHead, path: str) -> None:
        """Refuse who may not come in any more: since `admit` its body may have taken many seconds.

        Nothing is counted, neither against a quota nor as a use.

        Raises
        ------
        Unauthorized, UnknownName, Unavailable
            As `admit`.
        """
        if access.role == "open":
            return
        team = self._identify(head).team
        if team is not None:
            _check_scope(team, access, path)

    def spend(self, caller: Caller) -> None:
        """Count a request against the quota of a caller's team.

        Raises
        ------
        TooMany
            If it is spent.
        """
        team = caller.team
        wait = 0.0 if team is None else self._quota.take(team.number, team.quota)
        if team is not None and wait:
            raise TooMany(
                f"The team {team.name} has spent its {team.quota:g} requests a second.",
                f"Wait {wait:.3g} s, or ask for another quota (feilun team change).",
                wait,
            )

    def _identify(self, head: RequestHead) -> Caller:
        sent = head.authorization
        if sent:
            presented = sent[len(_BEARER) :] if sent[: len(_BEARER)].lower() == _BEARER else b""
            if hmac.compare_digest(presented, self._token):
                return LOCAL
            caller = self._keyring.find(presented, self._clock.now())
            if caller is not None:
                return caller
            raise Unauthorized(
                "This key is not known, or it has expired or was revoked.", _NEEDS_KEY
            )
        if head.cookie and hmac.compare_digest(self._cookie_of(head), self._cookie.encode()):
            if head.fetch_site == b"same-site":  # another port's page, which gets the cookie too
                raise OriginError(
                    "Pages of other servers may not call this gateway.", "Call it from a server."
                )
            return LOCAL
        self._keyring.check_fresh()
        if not self._keyring.required:
            return ANYBODY
        raise Unauthorized("A key is needed.", _NEEDS_KEY)

    def login(self, head: RequestHead, query: bytes) -> Response:
        """Answer a link with the token: put it into a cookie, out of the address bar.

        Raises
        ------
        Unauthorized
            If the token is another one.
        """
        given = parse_qs(query.decode("latin-1")).get("token", [])
        if len(given) != 1 or not hmac.compare_digest(given[0].encode(), self._token):
            raise Unauthorized(
                "This link is not from the platform that runs here.",
                "Open the one that feilun up has printed.",
            )
        cookie = f"{_cookie_name(head)}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
        headers = (
            (b"location", LOGIN_PATH.encode()),
            (b"set-cookie", cookie.encode()),
            (b"referrer-policy", b"no-referrer"),
        )
        return Response(b"", 303, content_type=b"text/plain", headers=headers)

    def _cookie_of(self, head: RequestHead) -> bytes:
        name = _cookie_name(head)
        for pair in head.cookie.split(b";"):
            key, _, value = pair.strip().partition(b"=")
            if key == name.encode():
                return value
        return b""


def _check_scope(team: Team, access: Access | None, path: str) -> None:
    if access is None or not access.lets_in(team.scopes):
        raise UnknownName(
            f"Nothing answers the team {team.name} at {path[:200]!r}.",
            "/docs shows what it may call. The platform's owner gives more: feilun team change",
        )


def is_login(path: str, query: bytes) -> bool:
    """Say whether somebody opened a link with the token."""
    return path == LOGIN_PATH and query.startswith(b"token=")


def refuse_keys_in_urls(path: str, query: bytes) -> None:
    """Refuse a request whose URL holds a key: URLs are kept in histories and in logs.

    Raises
    ------
    InputError
        Without what was sent.
    """
    if holds_secret(path) or holds_secret(unquote(query.decode("latin-1"))):
        raise InputError(
            "A key must not be in a URL, where histories and logs keep it.",
            "Send it in the header Authorization: Bearer KEY, and have this one replaced: "
            "feilun team rotate",
        )


def _cookie_name(head: RequestHead) -> str:
    port = head.hosts[0].rpartition(":")[2]
    return f"feilun_{port if port.isdigit() else 80}"
