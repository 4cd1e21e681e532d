"""JSON Schemas of Python types, of features and of events, with values that fit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from feilun.definitions.specs import DType, EventSpec, ExpressionSpec, FeatureSpec

EXAMPLES: Mapping[str, Any] = {
    "integer": 1, "number": 1.5, "string": "text", "boolean": True, "null": None,
}  # fmt: skip
"""A value of each JSON type."""

_JSON_TYPES: Mapping[DType, str] = {
    "int": "integer", "float": "number", "str": "string", "bool": "boolean", "vector": "array",
}  # fmt: skip

_REF = "#/components/schemas/{name}"


def reference(name: str) -> dict[str, str]:
    """Return a reference to a named schema."""
    return {"$ref": _REF.format(name=name)}


class Schemas:
    """JSON Schemas of Python types; what has a name is in ``components``."""

    def __init__(self, types: Iterable[Any]) -> None:
        known = [kind for kind in types if _has_schema(kind)]
        found, self.components = msgspec.json.schema_components(known, ref_template=_REF)
        self._schemas = list(zip(known, found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type; an empty one (anything) for what has none."""
        return next((dict(schema) for known, schema in self._schemas if known == kind), {})


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except (TypeError, NotImplementedError):
        return False
    return True


def example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """Return a plain value that fits a schema."""
    if "$ref" in schema:
        return example(components[schema["$ref"].rpartition("/")[2]], components)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], components)
    kind = schema.get("type")
    if kind == "array":
        return [example(schema["items"], components)] if schema.get("items") else []
    if kind == "object":
        return {
            name: example(part, components) for name, part in schema.get("properties", {}).items()
        }
    return EXAMPLES.get(str(kind))


def value_schema(dtype: DType, dim: int = 0, *, nullable: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of a field's or a feature's value; a vector has ``dim`` numbers."""
    kind = _JSON_TYPES[dtype]
    schema: dict[str, Any] = {"type": [kind, "null"] if nullable else kind}
    if dtype == "vector":
        schema |= {"items": {"type": "number"}, "minItems": dim, "maxItems": dim}
    return schema


def value_example(dtype: DType, dim: int = 0) -> Any:
    """Return a value that fits ``value_schema``."""
    return [0.5] * dim if dtype == "vector" else EXAMPLES[_JSON_TYPES[dtype]]


def feature_schema(feature: FeatureSpec | ExpressionSpec) -> dict[str, Any]:
    """Return the JSON Schema of a feature's value in a reply."""
    if isinstance(feature, ExpressionSpec):
        return value_schema(feature.dtype, nullable=True)
    if feature.is_list:
        return {"type": "array", "items": value_schema(feature.dtype)}
    return value_schema(feature.dtype, feature.fold.dim, nullable=True)


def feature_example(feature: FeatureSpec | ExpressionSpec) -> Any:
    """Return a value that fits ``feature_schema``."""
    value = value_example(feature.dtype, feature.width)
    return [value] if feature.is_list else value


def event_schema(event: EventSpec) -> dict[str, Any]:
    """Return the JSON Schema of an event as clients send it."""
    fields = {
        f.name: value_schema(f.dtype, f.dim, nullable=f.optional)
        | ({"deprecated": True} if f.deprecated else {})
        for f in event.fields
    }
    return {
        "type": "object",
        "description": event.description or f"The event {event.name}.",
        "properties": {
            "event": {"const": event.name},
            "id": {"type": "string", "minLength": 1, "maxLength": 64},
            "time": {"type": ["string", "integer"], "description": "ISO 8601, or int µs UTC."},
            "fields": {
                "type": "object",
                "properties": fields,
                "required": [f.name for f in event.fields if not f.optional],
                "additionalProperties": False,
            },
        },
        "required": ["event", "fields"],
        "additionalProperties": False,
    }
