"""The gateway's OpenAPI 3.1 description, made from the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from feilun.definitions.specs import ParameterSpec, Project
from feilun.serving.batch import MAX_REQUESTS
from feilun.serving.capability import Capability, CapabilityReply
from feilun.serving.collect import Collect, EventsReply
from feilun.serving.requests import is_list
from feilun.serving.schemas import (
    Schemas,
    event_schema,
    feature_example,
    feature_schema,
    reference,
    value_example,
)
from feilun.serving.schemas import example as example_of
from feilun.serving.views import View, ViewReply

_JSON = "application/json"
_EXAMPLE_ID = "0193f0a0-7a5e-7cc3-98c5-0242ac120002"
_EVENTS_TEXT = (
    "Each event is answered with what became of it, and with its offset in the log, once it is "
    "durable: accepted; duplicate (it was there already and counts once); late; conflict (the id "
    "came before with other content); erased (it is from before its subject was erased, and is not "
    "stored); or bad, with the reason.\n"
    "An event that is sent again under its id counts once. Give the offset as min_offset to a "
    "read, and the read will have seen the event.\n"
    "A body may be one event, an array, or an object with events and, for all of them, source and "
    "sent_at, from which the skew of the sender's clock is known."
)
_MIN_OFFSET = "Answer only once the record at this log offset is in the features (for 2 s)."
_AS_OF = "Replays only: the time of the read, µs UTC, later than every folded event."
_BATCH = (
    "Each request is answered, and logged, for itself, in the order of the body: its status, and "
    "its reply or its error. Its id is the batch's with its place, <id>.0."
)
_PERSONALISED = "false: nothing that is known of whom the request is about is read or kept."


class ErrorBody(msgspec.Struct):
    """What went wrong, and what to do next."""

    code: str
    message: str
    hint: str
    request_id: str


class ErrorReply(msgspec.Struct):
    """Every reply that is not 200 has this form."""

    error: ErrorBody


def describe(
    project: Project, version: str, capabilities: Sequence[Capability], views: Sequence[View]
) -> dict[str, Any]:
    """Return the description as JSON values.

    Parameters
    ----------
    project : Project
        Its name and events.
    version : str
        The version of Feilun that answers.
    capabilities, views
        The routes that are there.
    """
    annotations = [p.annotation for c in capabilities for p in c.spec.parameters]
    annotations += [c.spec.returns for c in capabilities]
    schemas = Schemas([CapabilityReply, ViewReply, EventsReply, ErrorReply, *annotations])
    items = {each.spec.path: _capability_item(each, schemas) for each in capabilities}
    paths: dict[str, Any] = {
        Collect.path: {"post": _events_operation(project)},
        **items,
        **{f"{path}/batch": {"post": _batch_operation(item["post"])}
           for path, item in items.items()},
        **{view.path: {"get": _view_operation(view, schemas)} for view in views},
        **{path: {"get": operation} for path, operation in _own_operations().items()},
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": project.name,
            "version": version,
            "description": "Features, models and events of one Feilun project.",
        },
        "tags": [
            {"name": "capabilities", "description": "What the models do."},
            {"name": "views", "description": "The features, as they are now."},
            {"name": "events", "description": "What happened."},
            {"name": "operations", "description": "The gateway about itself."},
        ],
        "paths": paths,
        "components": {"schemas": {**schemas.components, **_event_schemas(project)}},
    }


def _operation(
    name: str, *, tag: str, summary: str, description: str, reply: Any, example: Any
) -> dict[str, Any]:
    media = {"schema": reply, "example": example} if example is not None else {"schema": reply}
    error = {_JSON: {"schema": reference("ErrorReply")}}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {
            "200": {"description": "The answer.", "content": {_JSON: media}},
            "400": {"description": "The request cannot be used.", "content": error},
            "503": {"description": "Not now; try again.", "content": error},
        },
    }


def _capability_item(capability: Capability, schemas: Schemas) -> dict[str, Any]:
    spec = capability.spec
    reply_schema = {
        "allOf": [
            reference("CapabilityReply"),
            {"type": "object", "properties": {"result": schemas.of(spec.returns)}},
        ]
    }
    example = {
        "result": example_of(schemas.of(spec.returns), schemas.components),
        "request_id": _EXAMPLE_ID,
        "model": spec.model,
        "version": 3,
        "as_of": 1_764_000_000_000_000,
        "folded_offset": 1_024,
        "degraded": [],
    }
    text = "\n\n".join(
        part
        for part in (
            spec.description,
            f"Scored by the model {spec.model}." + (f" Owner: {spec.owner}." if spec.owner else ""),
        )
        if part
    )
    base = _operation(
        spec.name,
        tag="capabilities",
        summary=_summary(spec.description, spec.name),
        description=text,
        reply=reply_schema,
        example=example,
    )
    properties = {p.name: _parameter_schema(p, schemas) for p in spec.parameters}
    body = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in spec.parameters if p.required],
        "additionalProperties": False,
    }
    more = [_personalised()] if capability.is_personal else []
    get = {**base, "parameters": _query(spec.parameters, schemas) + more}
    post = {
        **base,
        "operationId": f"{spec.name}_post",
        "parameters": _options() + more,
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {
                    "schema": body,
                    "example": {p.name: _parameter_example(p, schemas) for p in spec.parameters},
                }
            },
        },
    }
    return {"get": get, "post": post}


def _batch_operation(post: dict[str, Any]) -> dict[str, Any]:
    """Return the operation for many requests at once, from the one for one of them."""
    asked = post["requestBody"]["content"][_JSON]
    answered = post["responses"]["200"]["content"][_JSON]
    one = {
        "type": "object",
        "properties": {
            "status": {"type": "integer"},
            "reply": answered["schema"],
            "error": {"$ref": "#/components/schemas/ErrorBody"},
        },
        "required": ["status"],
    }
    schema = {
        "type": "object",
        "properties": {
            "replies": {"type": "array", "items": one},
            "request_id": {"type": "string"},
        },
        "required": ["replies", "request_id"],
    }
    example = {
        "replies": [{"status": 200, "reply": answered["example"]}],
        "request_id": _EXAMPLE_ID,
    }
    media = {"schema": schema, "example": example}
    body = {"type": "array", "items": asked["schema"], "maxItems": MAX_REQUESTS}
    return {
        **post,
        "operationId": post["operationId"].removesuffix("post") + "batch",
        "summary": f"Many at once: {post['summary']}",
        "description": f"{post['description']}\n\n{_BATCH}",
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": body, "example": [asked["example"]]}},
        },
        "responses": {
            **post["responses"],
            "200": {"description": "An answer to each.", "content": {_JSON: media}},
        },
    }


def _view_operation(view: View, schemas: Schemas) -> dict[str, Any]:
    spec = view.spec
    values = {f.name: feature_schema(f) for f in spec.readable}
    example = {
        "view": spec.name,
        "keys": {e.name: value_example(e.dtype) for e in spec.entities},
        "features": {f.name: feature_example(f) for f in spec.readable},
        "request_id": _EXAMPLE_ID,
        "as_of": 1_764_000_000_000_000,
        "folded_offset": 1_024,
        "degraded": [],
    }
    schema = {
        "allOf": [
            reference("ViewReply"),
            {
                "type": "object",
                "properties": {"features": {"type": "object", "properties": values}},
            },
        ]
    }
    lines = [spec.description] if spec.description else []
    lines += [f"- `{f.name}`: {f.description}" for f in spec.features if f.description]
    lines += [f"- `{e.name}`: `{e.formula}`" for e in spec.expressions]
    lines += [f"Owner: {spec.owner}."] if spec.owner else []
    operation = _operation(
        spec.name,
        tag="views",
        summary=_summary(spec.description, spec.name),
        description="\n".join(lines),
        reply=schema,
        example=example,
    )
    return {**operation, "parameters": _query(view.parameters, schemas)}


def _events_operation(project: Project) -> dict[str, Any]:
    examples = [
        {
            "event": event.name,
            "id": _EXAMPLE_ID,
            "time": "2026-05-01T09:30:00Z",
            "fields": {f.name: value_example(f.dtype, f.dim) for f in event.fields},
        }
        for event in project.sent_events.values()
    ]
    operation = _operation(
        "send_events",
        tag="events",
        summary="Send one event, an array of events, or a batch",
        description=_EVENTS_TEXT,
        reply=reference("EventsReply"),
        example={
            "events": [{"status": "accepted", "id": _EXAMPLE_ID, "offset": 1_024}],
            "request_id": _EXAMPLE_ID,
        },
    )
    one = {"anyOf": [reference(f"event.{name}") for name in project.sent_events]}
    if not project.sent_events:
        one = {"anyOf": []}
    many = {"type": "array", "items": one}
    batch = {
        "type": "object",
        "properties": {
            "events": many,
            "source": {"type": "string"},
            "sent_at": {"type": ["string", "integer"]},
        },
        "required": ["events"],
        "additionalProperties": False,
    }
    body = {"schema": {"anyOf": [one, many, batch]}, "example": {"events": examples[:1]}}
    return {**operation, "requestBody": {"required": True, "content": {_JSON: body}}}


def _event_schemas(project: Project) -> dict[str, Any]:
    return {f"event.{event.name}": event_schema(event) for event in project.sent_events.values()}


def _own_operations() -> dict[str, Any]:
    texts = {
        "/health": "Whether the process lives",
        "/ready": "Whether requests can be answered",
        "/status": "Where everything stands",
        "/metrics": "What Prometheus scrapes",
        "/openapi.json": "This description",
        "/docs": "This description, for people",
    }
    kinds = {"/metrics": "text/plain", "/docs": "text/html"}
    return {
        path: {
            "operationId": path.strip("/").replace(".", "_"),
            "tags": ["operations"],
            "summary": summary,
            "responses": {
                "200": {
                    "description": summary,
                    "content": {kinds.get(path, _JSON): {}},
                }
            },
        }
        for path, summary in texts.items()
    }


def _query(parameters: Sequence[ParameterSpec], schemas: Schemas) -> list[dict[str, Any]]:
    own = [
        {
            "name": p.name,
            "in": "query",
            "required": p.required,
            "schema": _parameter_schema(p, schemas),
            "example": _parameter_example(p, schemas),
        }
        for p in parameters
    ]
    return own + _options()


def _options() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": text,
            "schema": {"type": "integer", "minimum": 0},
        }
        for name, text in (("min_offset", _MIN_OFFSET), ("as_of", _AS_OF))
    ]


def _personalised() -> dict[str, Any]:
    return {
        "name": "personalised",
        "in": "query",
        "required": False,
        "description": _PERSONALISED,
        "schema": {"type": "boolean", "default": True},
    }


def _parameter_schema(parameter: ParameterSpec, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(parameter.annotation)
    if not parameter.required and isinstance(parameter.default, int | float | str | bool | None):
        schema["default"] = parameter.default
    return schema


def _parameter_example(parameter: ParameterSpec, schemas: Schemas) -> Any:
    if not parameter.required and parameter.default is not None:
        return parameter.default
    example = example_of(schemas.of(parameter.annotation), schemas.components)
    return example or [1] if is_list(parameter.annotation) else example


def _summary(description: str, name: str) -> str:
    first = description.strip().splitlines()
    return first[0] if first else name
