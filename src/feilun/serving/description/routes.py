"""``/openapi.json`` and ``/docs``: to whoever asks, what of the API they may call."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from feilun.definitions.specs import Project
from feilun.i18n import accepted
from feilun.serving.access.guard import OPEN
from feilun.serving.access.keyring import Keyring
from feilun.serving.app import Route
from feilun.serving.description.docs_page import CONTENT_SECURITY_POLICY, render
from feilun.serving.description.openapi import describe, only, with_keys
from feilun.serving.http.exchange import Request, Response
from feilun.serving.snapshots.moment import ClockMode


class Description:
    """The routes that describe the API.

    Parameters
    ----------
    project : Project
        What is described.
    clock : {"wall", "request"}
        Where the gateway takes the time from.
    keyring : Keyring
        Says whether callers need a key.
    routes : mapping
        The gateway's table, for who may call what; it may be filled later.
    """

    def __init__(
        self, project: Project, clock: ClockMode, keyring: Keyring, routes: Mapping[str, Route]
    ) -> None:
        self._description = describe(project, version("feilun"), clock)
        self._keyring = keyring
        self._routes = routes

    async def openapi(self, request: Request) -> Response:
        """Describe it to programs."""
        return Response(msgspec.json.encode(self._described(request)))

    async def docs(self, request: Request) -> Response:
        """Describe it to people, with the page's own words in their language."""
        page = render(
            self._described(request),
            f"http://{request.host}",
            keys=self._keyring.required,
            language=accepted(request.languages.decode("latin-1")),
        )
        policy = (
            (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
            (b"vary", b"accept-language"),
        )
        return Response(page.encode(), content_type=b"text/html; charset=utf-8", headers=policy)

    def _described(self, request: Request) -> dict[str, Any]:
        if not self._keyring.required:
            return self._description
        open_paths = [path for path, route in self._routes.items() if route.access == OPEN]
        whole = with_keys(self._description, open_paths)
        team = request.caller.team
        if team is None:
            return whole
        scopes = team.scopes
        return only(whole, {p for p, route in self._routes.items() if route.access.lets_in(scopes)})
