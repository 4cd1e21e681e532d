"""The gateway's OpenAPI 3.1 description, made from the definitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from feilun.definitions.specs import CapabilitySpec, EventSpec, ParameterSpec, Project, ViewSpec
from feilun.events.collector import ITEM_LIMIT
from feilun.i18n import marked
from feilun.serving.answering.batch import MAX_REQUESTS
from feilun.serving.answering.capability import CapabilityReply
from feilun.serving.answering.views import ViewReply, key_parameters, view_path
from feilun.serving.description.api_version import api_version, operation_version, references
from feilun.serving.description.error_replies import READ, SEND, ErrorReply, error_replies
from feilun.serving.description.headers import ASK, reply_headers, request_headers
from feilun.serving.description.headers import READ as READ_HEADERS
from feilun.serving.description.own_operations import own_operations
from feilun.serving.description.schemas import (
    EXAMPLE_ID,
    Schemas,
    event_schema,
    feature_example,
    feature_schema,
    reference,
    value_example,
)
from feilun.serving.description.schemas import example as example_of
from feilun.serving.http.parameters import is_list, keys_of
from feilun.serving.log.collect import Collect, EventsReply
from feilun.serving.snapshots.moment import ClockMode

_JSON = "application/json"
_EVENTS_TEXT = marked(
    "Each event is answered with what became of it, and with its offset in the log, once it is "
    "durable: accepted; duplicate (it was there already and counts once); late; conflict (the id "
    "came before with other content); erased (it is from before its subject was erased, and is not "
    "stored); or bad, with the reason.\n"
    "An event that is sent again under its id counts once. Give the offset as min_offset to a "
    "read, and the read will have seen the event.\n"
    "A body may be one event, an array, or an object with events and, for all of them, source and "
    "sent_at, from which the skew of the sender's clock is known."
)
_KEYS = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A team's key, which `feilun team add` has given.",
    }
}
_ABOUT = marked("Features, models and events of one Feilun project.")
_TAGS = {
    "capabilities": marked("What the models do."),
    "batches": marked("The same, for many requests at once."),
    "views": marked("The features, as they are now."),
    "events": marked("What happened."),
    "operations": marked("The gateway about itself."),
}
_MIN_OFFSET = marked("Answer only once the record at this log offset is in the features (for 2 s).")
_AS_OF = marked("Replays only: the time of the read, µs UTC, later than every folded event.")
MANY = "Many at once: "
"""How the summary of a batch begins."""
EACH_ALONE = marked(
    "Each request is answered, and logged, for itself, in the order of the body: its status, and "
    "its reply or its error. Its id is the batch's with its place, <id>.0."
)
_PERSONALISED = marked("false: nothing that is known of whom the request is about is read or kept.")


def describe(project: Project, version: str, clock: ClockMode = "wall") -> dict[str, Any]:
    """Return the description as JSON values.

    Its version names the shape of the whole API, that of each operation its own.

    Parameters
    ----------
    project : Project
        Its capabilities, views and events.
    version : str
        The version of Feilun that answers.
    clock : {"wall", "request"}
        Where the gateway takes the time from: only a replay may say it.
    """
    options = _options(clock)
    capabilities = project.capabilities.values()
    annotations = [p.annotation for spec in capabilities for p in spec.parameters]
    annotations += [p.annotation for v in project.views.values() for p in key_parameters(v)]
    annotations += [spec.returns for spec in capabilities]
    schemas = Schemas([CapabilityReply, ViewReply, EventsReply, ErrorReply], annotations)
    schemas.components |= {f"event.{e.name}": event_schema(e) for e in project.sent_events.values()}
    items = {
        spec.path: _capability_item(
            spec, schemas, options + _personalised(bool(keys_of(spec, project.entities)))
        )
        for spec in capabilities
    }
    paths: dict[str, Any] = {
        Collect.path: {"post": _events_operation(project)},
        **items,
        **{f"{path}/batch": {"post": _batch_operation(item["post"])}
           for path, item in items.items()},
        **{view_path(spec): {"get": _view_operation(spec, schemas, options)}
           for spec in project.views.values()},
    }  # fmt: skip
    for path, item in paths.items():
        _take_headers(item, ASK if path.removesuffix("/batch") in items else READ_HEADERS)
        for operation in item.values():
            operation["x-feilun-version"] = operation_version(operation, schemas.components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": project.name,
            "version": api_version(paths),
            "description": _ABOUT,
            "x-feilun": version,
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {**paths, **{path: {"get": own} for path, own in own_operations().items()}},
        "components": {"schemas": schemas.components},
    }


def with_keys(description: Mapping[str, Any], open_paths: Collection[str]) -> dict[str, Any]:
    """Return a description that says that every path needs a key, but for the open ones."""
    paths = {
        path: {method: {**each, "security": []} for method, each in item.items()}
        if path in open_paths
        else item
        for path, item in description["paths"].items()
    }
    components = {**description["components"], "securitySchemes": _KEYS}
    return {**description, "paths": paths, "components": components, "security": [{"key": []}]}


def only(description: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """Return what a description says of some paths, and the schemas that those need."""
    kept = {path: item for path, item in description["paths"].items() if path in paths}
    components = description["components"]
    needed: set[str] = set()
    waiting = [*references(kept)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += references(components["schemas"][name])
    schemas = {name: each for name, each in components["schemas"].items() if name in needed}
    return {**description, "paths": kept, "components": {**components, "schemas": schemas}}


def _take_headers(item: dict[str, Any], names: Sequence[str]) -> None:
    """Say of each operation of a path which headers it takes and answers with."""
    for method, operation in item.items():
        answered = {**operation["responses"]["200"], "headers": reply_headers(names)}
        item[method] = {
            **operation,
            "parameters": [*operation.get("parameters", ()), *request_headers(names)],
            "responses": {**operation["responses"], "200": answered},
        }


def _operation(
    name: str,
    *,
    tag: str,
    summary: str,
    description: str,
    reply: Any,
    example: Any,
    errors: Sequence[int],
) -> dict[str, Any]:
    media = {"schema": reply, "example": example}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {
            "200": {"description": "The answer.", "content": {_JSON: media}},
            **error_replies(errors),
        },
    }


def _capability_item(
    spec: CapabilitySpec, schemas: Schemas, options: list[dict[str, Any]]
) -> dict[str, Any]:
    result = schemas.of(spec.returns)
    reply = reference(_typed_reply(f"capability.{spec.name}", CapabilityReply, schemas, result))
    example = {
        "result": example_of(result, schemas.components),
        "request_id": EXAMPLE_ID,
        "model": spec.model,
        "version": 3,
        "as_of": 1_764_000_000_000_000,
        "folded_offset": 1_024,
        "degraded": [],
    }
    candidates = ", ".join(each.address for each in spec.candidates)
    text = "\n\n".join(
        part
        for part in (
            spec.description or (candidates and f"It chooses from {candidates}."),
            f"Scored by {'the model' if not spec.also else 'the models'} {', '.join(spec.models)}."
            + (f" Owner: {spec.owner}." if spec.owner else ""),
        )
        if part
    )
    base = _operation(
        spec.name,
        tag="capabilities",
        summary=_summary(spec.description, f"Scored by {spec.model}"),
        description=text,
        reply=reply,
        example=example,
        errors=(*READ, 409),
    )
    properties = {p.name: _parameter_schema(p, schemas) for p in spec.parameters}
    body = {
        "type": "object",
        "properties": properties,
        "required": [p.name for p in spec.parameters if p.required],
        "additionalProperties": False,
    }
    get = {**base, "parameters": _query(spec.parameters, schemas) + options}
    post = {
        **base,
        "operationId": f"{spec.name}_post",
        "parameters": options,
        "responses": {**base["responses"], **error_replies(SEND)},
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


def _typed_reply(name: str, reply: type, schemas: Schemas, typed: dict[str, Any]) -> str:
    """Add the schema of one route's reply: the common one, and what this route puts into it."""
    common = schemas.components[reply.__name__]
    varying = "result" if reply is CapabilityReply else "features"
    schemas.components[name] = {
        **common,
        "title": name,
        "properties": {**common["properties"], varying: typed},
    }
    return name


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
        "request_id": EXAMPLE_ID,
    }
    media = {"schema": schema, "example": example}
    body = {"type": "array", "items": asked["schema"], "maxItems": MAX_REQUESTS}
    return {
        **post,
        "operationId": post["operationId"].removesuffix("post") + "batch",
        "tags": ["batches"],
        "summary": f"{MANY}{post['summary']}",
        "description": f"{post['description']}\n\n{EACH_ALONE}",
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": body, "example": [asked["example"]]}},
        },
        "responses": {
            **post["responses"],
            "200": {"description": "An answer to each.", "content": {_JSON: media}},
        },
    }


def _view_operation(
    spec: ViewSpec, schemas: Schemas, options: list[dict[str, Any]]
) -> dict[str, Any]:
    values = {f.name: feature_schema(f) for f in spec.readable}
    features = {"type": "object", "properties": values, "required": list(values)}
    example = {
        "view": spec.name,
        "keys": {e.name: value_example(e.dtype) for e in spec.entities},
        "features": {f.name: feature_example(f) for f in spec.readable},
        "request_id": EXAMPLE_ID,
        "as_of": 1_764_000_000_000_000,
        "folded_offset": 1_024,
        "degraded": [],
    }
    lines = [spec.description] if spec.description else []
    lines += [f"- `{f.name}`: {f.description or f'`{f.formula}`'}" for f in spec.features]
    lines += [f"- `{e.name}`: `{e.formula}`" for e in spec.expressions]
    lines += [f"Owner: {spec.owner}."] if spec.owner else []
    entities = ", ".join(entity.name for entity in spec.entities)
    operation = _operation(
        spec.name,
        tag="views",
        summary=_summary(spec.description, f"Features of {entities or 'the whole project'}"),
        description="\n".join(lines),
        reply=reference(_typed_reply(f"view.{spec.name}", ViewReply, schemas, features)),
        example=example,
        errors=READ,
    )
    return {**operation, "parameters": _query(key_parameters(spec), schemas) + options}


def _events_operation(project: Project) -> dict[str, Any]:
    names = list(project.sent_events)
    operation = _operation(
        "send_events",
        tag="events",
        summary=marked("Send one event, an array of events, or a batch"),
        description=_EVENTS_TEXT,
        reply=reference("EventsReply"),
        example={
            "events": [{"status": "accepted", "id": EXAMPLE_ID, "offset": 1_024}],
            "request_id": EXAMPLE_ID,
        },
        errors=SEND,
    )
    # A project without events takes none: a schema that nothing fits.
    one: Any = {"anyOf": [reference(f"event.{name}") for name in names]} if names else {"not": {}}
    many = {"type": "array", "items": one, "maxItems": ITEM_LIMIT}
    batch = {
        "type": "object",
        "properties": {
            "events": many,
            "source": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
            "sent_at": {"type": ["string", "integer"]},
        },
        "required": ["events"],
        "additionalProperties": False,
    }
    example = {"events": [_event_example(event) for event in project.sent_events.values()][:1]}
    body = {"schema": {"anyOf": [one, many, batch]}, "example": example}
    return {**operation, "requestBody": {"required": True, "content": {_JSON: body}}}


def _event_example(event: EventSpec) -> dict[str, Any]:
    return {
        "event": event.name,
        "id": EXAMPLE_ID,
        "time": "2026-05-01T09:30:00Z",
        "fields": {f.name: value_example(f.dtype, f.dim) for f in event.fields},
    }


def _query(parameters: Sequence[ParameterSpec], schemas: Schemas) -> list[dict[str, Any]]:
    return [
        {
            "name": p.name,
            "in": "query",
            "required": p.required,
            "schema": _parameter_schema(p, schemas),
            "example": _parameter_example(p, schemas),
        }
        for p in parameters
    ]


def _options(clock: ClockMode) -> list[dict[str, Any]]:
    """Return what every read may ask for."""
    texts = {"min_offset": _MIN_OFFSET} | ({"as_of": _AS_OF} if clock == "request" else {})
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": text,
            "schema": {"type": "integer", "minimum": 0},
        }
        for name, text in texts.items()
    ]


def _personalised(personal: bool) -> list[dict[str, Any]]:
    option = {
        "name": "personalised",
        "in": "query",
        "required": False,
        "description": _PERSONALISED,
        "schema": {"type": "boolean", "default": True},
    }
    return [option] if personal else []


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


def _summary(description: str, otherwise: str) -> str:
    first = description.strip().splitlines()
    return first[0] if first else otherwise
