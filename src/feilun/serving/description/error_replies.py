"""What a reply that is not 200 looks like, and which ones may come: for the description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from feilun.i18n import marked
from feilun.serving.description.schemas import EXAMPLE_ID, reference


class ErrorBody(msgspec.Struct):
    """What went wrong, and what to do next."""

    code: str
    message: str
    hint: str
    request_id: str


class ErrorReply(msgspec.Struct):
    """Every reply that is not 200 has this form."""

    error: ErrorBody


class _Error(NamedTuple):
    text: str
    code: str
    message: str
    hint: str


_ERRORS: Mapping[int, _Error] = {
    400: _Error(
        marked("The request cannot be used; mend it first."),
        "bad_input", "/api/recommend has no parameter 'usr_id'.", "Did you mean 'user_id'?",
    ),
    401: _Error(
        marked("A key is needed, or is not valid."),
        "unauthorized", "This needs a key.", "Send the header Authorization: Bearer KEY.",
    ),
    403: _Error(
        marked("Another host's name, or a page of another site."),
        "refused", "Pages of other sites may not call this gateway.", "Call it from a server.",
    ),
    409: _Error(
        marked("This request id came before with another request."),
        "conflict", "This request id came before with another request.", "Choose another id.",
    ),
    413: _Error(
        marked("More bytes or items than a cap allows; send less in one request."),
        "too_large", "The body is larger than 1048576 bytes.", "Send less in one request.",
    ),
    415: _Error(
        marked("The body is not plain JSON."),
        "unsupported_type", "The body must be uncompressed JSON in UTF-8.",
        "Send the header Content-Type: application/json.",
    ),
    429: _Error(
        marked("The quota is spent; try again after Retry-After."),
        "too_many", "The team has spent its quota.", "Try again in 1 s.",
    ),
    500: _Error(
        marked("The gateway or the project's own code failed; its log says why."),
        "internal", "The gateway could not answer.",
        "Its log has the reason, under the request id.",
    ),
    503: _Error(
        marked("Not now; try again after Retry-After, under the same id."),
        "unavailable", "The log takes no records.", "Try again.",
    ),
    504: _Error(
        marked(
            "Not within the seconds of Request-Timeout; try again under the same id, with more "
            "time."
        ),
        "too_late", "The request was not answered within 0.2 s, as it asked.",
        "Send it again under the same id, with more time.",
    ),
}  # fmt: skip

READ: tuple[int, ...] = (400, 401, 403, 413, 429, 500, 503, 504)
"""What a GET may be answered with."""
SEND: tuple[int, ...] = (400, 401, 403, 413, 415, 429, 500, 503, 504)
"""What a POST may be answered with."""
_RETRY_AFTER = {
    "Retry-After": {"description": "In how many seconds.", "schema": {"type": "integer"}}
}


def error_replies(statuses: Iterable[int]) -> dict[str, Any]:
    """Return the responses of an operation for these statuses, each with an example."""
    return {str(status): _described(status) for status in statuses}


def _described(status: int) -> dict[str, Any]:
    error = _ERRORS[status]
    body = {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "request_id": EXAMPLE_ID,
    }
    media = {"schema": reference("ErrorReply"), "example": {"error": body}}
    described: dict[str, Any] = {
        "description": error.text,
        "content": {"application/json": media},
    }
    if status in (429, 503):
        described["headers"] = _RETRY_AFTER
    return described
