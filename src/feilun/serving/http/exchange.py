"""The HTTP that the gateway speaks, on bare ASGI: one request in, one whole reply out.

What arrives is judged before it is parsed: the host it was sent to, its size, its type.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from feilun.errors import FeilunError, InputError
from feilun.serving.http.admission import Overloaded
from feilun.serving.http.caller import ANYBODY, Caller

Headers = Iterable[tuple[bytes, bytes]]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
QUERY_BYTES = 16_384
"""The most bytes of a query; longer lists of parameters are sent by POST."""
_SECONDS = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,20})?(e-[0-9]{1,3})?", re.IGNORECASE)
"""Up to eleven days, as programs write numbers that they have computed."""
REQUEST_ID_LENGTH = 64
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{REQUEST_ID_LENGTH}}}")


def fitting_id(id: str) -> str:
    """Return an id that was made of a request's, or its digest if it is too long for one.

    Examples
    --------
    >>> fitting_id("order-77.3"), len(fitting_id("order-77." + "3" * 64))
    ('order-77.3', 32)
    """
    if len(id) <= REQUEST_ID_LENGTH:
        return id
    return hashlib.blake2b(id.encode(), digest_size=16).hexdigest()


class MethodError(InputError):
    """The path is right, the method is not."""

    status = 405
    code = "method_not_allowed"


class OriginError(InputError):
    """The request was sent to another host's name, or by another site's page."""

    status = 403
    code = "refused"


class ContentTypeError(InputError):
    """The body is not plain JSON."""

    status = 415
    code = "unsupported_type"


class Unauthorized(InputError):
    """No key, or one that is nobody's."""

    status = 401
    code = "unauthorized"


class TooMany(InputError):
    """The team has spent its quota; ``seconds`` says when it may call again."""

    status = 429
    code = "too_many"

    def __init__(self, message: str, hint: str, seconds: float) -> None:
        super().__init__(message, hint)
        self.seconds = seconds


class InternalError(FeilunError):
    """Something raised that should not have; its traceback is in the log, not in the reply."""

    code = "internal"

    def __init__(self) -> None:
        super().__init__(
            "The gateway could not answer.", "Its log has the reason, under the request id."
        )


class Request(msgspec.Struct, frozen=True):
    """One request: ``query`` is as sent, ``body`` is complete and within its cap.

    ``host`` is one of the allowed names, with the port if the client gave one. ``page`` is the
    origin of the web page that sent it, if it is one of those that may. ``caller`` is
    whoever has been let in. ``named`` says that the caller gave the id, so that the request may
    have come before. ``languages`` is the header Accept-Language.
    """

    method: str
    path: str
    query: bytes
    body: bytes
    id: str
    host: str = "localhost"
    page: str = ""
    caller: Caller = ANYBODY
    named: bool = False
    languages: bytes = b""

    @property
    def team(self) -> str:
        """Whose key it came with; empty for a program of this machine."""
        return self.caller.team.name if self.caller.team else ""


class Response(msgspec.Struct, frozen=True):
    """One whole reply.

    ``used`` is what a team is charged for: of each answer in it the model and the version that
    scored, empty and 0 where none did.
    """

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    cache: bytes = b"no-store"
    used: tuple[tuple[str, int], ...] = (("", 0),)


class RequestHead(msgspec.Struct):
    """What the headers say, read in one pass; names are lower-case by the ASGI standard."""

    hosts: list[str]
    id: str
    named: bool = False
    content_type: bytes = b""
    content_length: bytes = b""
    content_encoding: bytes = b""
    fetch_site: bytes = b""
    origin: str = ""
    timeout: bytes | None = None
    authorization: bytes = b""
    cookie: bytes = b""
    languages: bytes = b""


_AS_SENT = {
    b"content-type": "content_type",
    b"content-length": "content_length",
    b"content-encoding": "content_encoding",
    b"sec-fetch-site": "fetch_site",
    b"cookie": "cookie",
    b"accept-language": "languages",
    b"request-timeout": "timeout",
}
"""Headers whose last value counts, and the field it goes to."""


def read_head(headers: Headers) -> RequestHead:
    """Read the headers that matter. A request id that is missing or malformed is empty.

    An idempotency key is the request's id; one with other characters is named by its digest, for
    it must never be lost.
    """
    head = RequestHead(hosts=[], id="")
    key = ""
    for name, value in headers:
        if name == b"host":
            head.hosts.append(value.decode("latin-1"))
        elif name in _AS_SENT:
            setattr(head, _AS_SENT[name], value)
        elif name == b"origin":
            head.origin = value.decode("latin-1")
        elif name == b"authorization":
            # Two of them are nobody's: which one counts must not depend on who reads them.
            head.authorization = b"twice" if head.authorization else value
        elif name == b"x-request-id":
            head.id = value.decode("latin-1")
        elif name == b"idempotency-key":
            key = value.decode("latin-1").strip('"')
    if key:
        digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        head.id = key if _REQUEST_ID.fullmatch(key) else digest
    if not _REQUEST_ID.fullmatch(head.id):
        head.id = ""
    head.named = bool(head.id)
    return head


def timeout_of(head: RequestHead) -> float | None:
    """Return how many seconds the caller waits, as it says in ``Request-Timeout``; None: for ever.

    Raises
    ------
    InputError
        If it is no number of seconds.
    """
    if head.timeout is None:
        return None
    if not _SECONDS.fullmatch(head.timeout):
        raise InputError("Request-Timeout is no number of seconds.", "Write Request-Timeout: 0.2")
    return float(head.timeout)


def check_origin(head: RequestHead, hosts: frozenset[str], page: str = "") -> None:
    """Refuse what a page of another site could make a browser send, unless it is a welcome one.

    A name that an attacker points at this machine (DNS rebinding) comes with that name as host.

    Raises
    ------
    OriginError
        If the host is not one of ``hosts`` (lower-case, without port), or a browser says that the
        request comes from another site.
    """
    if len(head.hosts) != 1 or _host_name(head.hosts[0]) not in hosts:
        raise OriginError(
            "This gateway does not answer under that host name.",
            f"Send the request to one of: {', '.join(sorted(hosts))}.",
        )
    if head.fetch_site == b"cross-site" and not page:
        raise OriginError(
            "Pages of other sites may not call this gateway.", "Call it from a server."
        )


def _host_name(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def check_json(head: RequestHead, page: str = "") -> None:
    """Raise ContentTypeError unless the body is said to be plain JSON.

    A welcome page may call it plain text: that needs no preflight, for which a page that is being
    left has no time. From all others it would let a form of another site in.
    """
    kind, _, parameters = head.content_type.partition(b";")
    plain = head.content_encoding in (b"", b"identity")
    charset = parameters.strip().lower().replace(b'"', b"")
    kinds = (JSON, b"text/plain") if page else (JSON,)
    if kind.strip().lower() not in kinds or charset not in (b"", b"charset=utf-8") or not plain:
        raise ContentTypeError(
            "The body must be uncompressed JSON in UTF-8.",
            "Send the header Content-Type: application/json.",
        )


async def send_response(send: Send, response: Response, request_id: str) -> None:
    """Send a reply. Every reply carries its request's id and is not cached unless it says so."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", str(len(response.body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"cache-control", response.cache),
        (b"x-content-type-options", b"nosniff"),
        *response.headers,
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def error_response(error: FeilunError, request_id: str) -> Response:
    """Return the reply that says what went wrong."""
    body = msgspec.json.encode(error_body(error, request_id))
    return Response(body, error.status, headers=_error_headers(error))


def _error_headers(error: FeilunError) -> tuple[tuple[bytes, bytes], ...]:
    if isinstance(error, TooMany | Overloaded):
        return ((b"retry-after", str(math.ceil(error.seconds)).encode()),)
    if error.status == 503:
        return ((b"retry-after", b"1"),)
    return ((b"www-authenticate", b"Bearer"),) if error.status == 401 else ()


def error_body(error: FeilunError, request_id: str) -> dict[str, dict[str, str]]:
    """Return what a caller sees of an error: its code, message and hint."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "request_id": request_id,
        }
    }
