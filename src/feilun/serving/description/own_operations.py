"""What the gateway says of itself, described: the operations that no definition makes."""

from __future__ import annotations

from typing import Any, NamedTuple

from feilun.i18n import marked
from feilun.serving.description.error_replies import error_replies

_JSON = "application/json"


class _Own(NamedTuple):
    summary: str
    schema: dict[str, Any]
    example: Any
    kind: str = _JSON


_READY = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ready", "degraded", "not ready"]},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["status", "problems"],
}
_STATUS = {
    "type": "object",
    "properties": {
        "project": {"type": "string"},
        "worker": {"type": "string"},
        "clock": {"enum": ["wall", "request"]},
        "now": {"type": "integer", "description": "µs UTC."},
        "folded_offset": {"type": "integer"},
        "folded_time": {"type": "integer", "description": "µs UTC."},
        "log_end": {"type": "integer"},
        "lag": {"type": "integer", "description": "Records that are not in the features yet."},
        "events": {"type": "object"},
        "models": {"type": "object"},
        "skew": {"type": "object"},
        "flywheels": {"type": "object"},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["project", "worker", "clock", "now", "folded_offset", "log_end", "lag"],
}
_OWN = {
    "/health": _Own(
        marked("Whether the process lives"),
        {
            "type": "object",
            "properties": {"status": {"const": "alive"}},
            "required": ["status"],
        },
        {"status": "alive"},
    ),
    "/ready": _Own(
        marked("Whether requests can be answered"), _READY, {"status": "ready", "problems": []}
    ),
    "/status": _Own(
        marked("Where everything stands"),
        _STATUS,
        {
            "project": "shop", "worker": "gateway-4711", "clock": "wall",
            "now": 1_764_000_000_000_000, "folded_offset": 1_024,
            "folded_time": 1_763_999_999_000_000, "log_end": 1_024, "lag": 0,
            "events": {"click": {"records": 1_024, "late": 0}}, "models": {}, "skew": {},
            "flywheels": {}, "problems": [],
        },
    ),
    "/metrics": _Own(
        marked("What Prometheus scrapes"),
        {"type": "string"},
        'feilun_log_end{worker="gateway-4711"} 1024',
        "text/plain",
    ),
    "/openapi.json": _Own(
        marked("This description"),
        {"type": "object", "required": ["openapi", "info", "paths"]},
        {"openapi": "3.1.0", "info": {"title": "shop", "version": "0"}, "paths": {}},
    ),
    "/docs": _Own(
        marked("This description, for people"), {"type": "string"}, "<!doctype html>…", "text/html"
    ),
    "/feilun.js": _Own(
        marked("The tracker for web pages, an ES module"),
        {"type": "string"},
        "export class Tracker { … }",
        "text/javascript",
    ),
}  # fmt: skip


def own_operations() -> dict[str, dict[str, Any]]:
    """Return the GET operation of each path."""
    return {path: _operation(path, own) for path, own in _OWN.items()}


def _operation(path: str, own: _Own) -> dict[str, Any]:
    media = {"schema": own.schema, "example": own.example}
    responses: dict[str, Any] = {
        "200": {"description": own.summary, "content": {own.kind: media}},
        **error_replies((401, 403, 500)),
    }
    if path == "/ready":
        example = {"status": "not ready", "problems": ["The log takes no records: it is full."]}
        media = {"schema": own.schema, "example": example}
        responses["503"] = {"description": marked("Not now."), "content": {own.kind: media}}
    elif path in ("/status", "/metrics"):
        responses |= error_replies((503,))
    return {
        "operationId": path.strip("/").replace(".", "_"),
        "tags": ["operations"],
        "summary": own.summary,
        "responses": responses,
    }
