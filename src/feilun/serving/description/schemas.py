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
EXAMPLE_ID = "0193f0a0-7a5e-7cc3-98c5-0242ac120002"
"""A request or an event may be called so."""
_FORMATS = {
    "date-time": "2026-05-01T09:30:00Z", "date": "2026-05-01", "time": "09:30:00Z",
    "duration": "PT1H", "uuid": EXAMPLE_ID, "decimal": "1.5",
}  # fmt: skip

_JSON_TYPES: Mapping[DType, str] = {
    "int": "integer", "float": "number", "str": "string", "bool": "boolean", "vector": "array",
}  # fmt: skip

_REF = "#/components/schemas/{name}"


def reference(name: str) -> dict[str, str]:
    """Return a reference to a named schema."""
    return {"$ref": _REF.format(name=name)}


class Schemas:
    """JSON Schemas of Python types; what has a name is in ``components``.

    The names of a project's types begin with ``type.``, so that they meet none of Feilun's own.
    """

    def __init__(self, own: Iterable[Any], types: Iterable[Any]) -> None:
        self.components: dict[str, Any] = {}
        self._schemas: list[tuple[Any, dict[str, Any]]] = []
        self._add(own, "")
        self._add(types, "type.")

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type; an empty one (anything) for what has none."""
        return next((dict(schema) for known, schema in self._schemas if known == kind), {})

    def _add(self, types: Iterable[Any], prefix: str) -> None:
        known = [kind for kind in types if _has_schema(kind)]
        template = _REF.replace("{name}", prefix + "{name}")
        found, components = msgspec.json.schema_components(known, ref_template=template)
        self._schemas += zip(known, found, strict=True)
        self.components |= {prefix + name: schema for name, schema in components.items()}


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except (TypeError, NotImplementedError):
        return False
    return True


def example(
    schema: Mapping[str, Any], components: Mapping[str, Any], above: frozenset[str] = frozenset()
) -> Any:
    """Return a plain value that fits a schema; ``above`` are named schemas that it is within."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return example(components[name], components, above | {name})
    if "anyOf" in schema:
        options = [part for part in schema["anyOf"] if not _ends_in(part, above)]
        return example((options or schema["anyOf"])[0], components, above)
    kind = schema.get("type")
    if kind == "array":
        return _list_example(schema, components, above)
    if kind == "object":
        required = schema.get("required", ())
        return {
            name: example(part, components, above)
            for name, part in schema.get("properties", {}).items()
            if name in required or not _ends_in(part, above)
        }
    return _scalar_example(schema)


def _scalar_example(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    kind = str(schema.get("type"))
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), EXAMPLES["string"])
        text = "" if "contentEncoding" in schema else text
        return text.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]
    value = EXAMPLES.get(kind)
    return schema.get("minimum", value) if kind in ("integer", "number") else value


def _list_example(
    schema: Mapping[str, Any], components: Mapping[str, Any], above: frozenset[str]
) -> list[Any]:
    first = [example(part, components, above) for part in schema.get("prefixItems", ())]
    items = schema.get("items")
    if first or not items or _ends_in(items, above):
        return first
    return [example(items, components, above)] * max(1, schema.get("minItems", 1))


def _ends_in(schema: Mapping[str, Any], above: frozenset[str]) -> bool:
    """Say whether an example of a schema would hold itself."""
    return any(_ends_in(part, above) for part in schema.get("anyOf", ())) or (
        schema.get("$ref", "").rpartition("/")[2] in above
    )


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
