"""The headers that name a request and bound it, and those of its answer: for the description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feilun.i18n import marked
from feilun.serving.description.schemas import EXAMPLE_ID

_TEXT = {"type": "string"}
_HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": (
        marked(
            "Names the request: 1 to 64 letters, digits, dots, dashes and underscores. Without one "
            "it gets an id. It comes back with the answer."
        ),
        _TEXT,
    ),
    "Idempotency-Key": (
        marked(
            "Names the request too, in any characters, and before X-Request-Id. What is sent again "
            "under its name gets the first answer again; another request under it, 409."
        ),
        _TEXT,
    ),
    "Request-Timeout": (
        marked("How many seconds the caller waits; when they are over, the answer is 504."),
        {"type": "number", "minimum": 0, "maximum": 999_999},
    ),
}

ASK: Sequence[str] = ("X-Request-Id", "Idempotency-Key", "Request-Timeout")
"""What a question to a capability may have: its answer is kept."""
READ: Sequence[str] = ("X-Request-Id", "Request-Timeout")
"""What any other request may have."""


def request_headers(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the parameters that are these headers."""
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": text,
            "schema": schema,
        }
        for name, (text, schema) in _HEADERS.items()
        if name in names
    ]


def reply_headers(names: Sequence[str]) -> dict[str, Any]:
    """Return the headers of the answer to a request that may have these."""
    named = {
        "X-Request-Id": {
            "description": "The id of the request.",
            "schema": _TEXT,
            "example": EXAMPLE_ID,
        }
    }
    if "Idempotency-Key" in names:
        named["Idempotent-Replayed"] = {
            "description": "true: this is the first answer, again.",
            "schema": _TEXT,
            "example": "true",
        }
    return named
