"""What web pages of other origins may do: send events, and load the tracker that does so.

A page holds no secret, so it needs no key: its origin is on the list of ``feilun.toml`` or it is
refused. Browsers tell a page's origin truly; other programs can tell any, so the list keeps other
people's pages out, not other people. No reply allows credentials.
"""

from __future__ import annotations

from importlib.resources import files

import msgspec

from feilun.serving.http.exchange import Request, RequestHead, Response

TRACKER_PATH = "/feilun.js"
_REMEMBERED = 600
"""How long (s) a browser may remember the answer to a preflight."""
_HOUR = b"public, max-age=3600"


def page_of(head: RequestHead, origins: frozenset[str]) -> str:
    """Return the origin of the page that a request is from, if it is a welcome one; else empty."""
    return head.origin if head.origin in origins else ""


def preflight(methods: str) -> Response:
    """Answer a browser that asks what a page may send."""
    headers = (
        (b"access-control-allow-methods", methods.encode()),
        (b"access-control-allow-headers", b"content-type, x-request-id"),
        (b"access-control-max-age", str(_REMEMBERED).encode()),
    )
    return Response(b"", content_type=b"text/plain", headers=headers)


def for_page(response: Response, origin: str) -> Response:
    """Return the reply as the page of ``origin`` may read it; as no page may if it is empty."""
    allowed = (
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-expose-headers", b"retry-after, x-request-id"),
    )
    headers = (*response.headers, (b"vary", b"origin"), *(allowed if origin else ()))
    return msgspec.structs.replace(response, headers=headers)


class TrackerFile:
    """The route of the tracker, an ES module: the same for every project."""

    def __init__(self) -> None:
        self._body = tracker_source().encode()

    async def answer(self, _: Request) -> Response:
        """Return the module."""
        return Response(self._body, content_type=b"text/javascript; charset=utf-8", cache=_HOUR)


def tracker_source() -> str:
    """Return the tracker's text."""
    return files("feilun.serving.http").joinpath("feilun.js").read_text(encoding="utf-8")
