"""JSON Schemas of Python types and of feature types, with values that fit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

EXAMPLES: Mapping[str, Any] = {
    "integer": 1, "number": 1.5, "string": "text", "boolean": True, "null": None,
}  # fmt: skip
"""A value of each JSON type."""

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


def json_type(dtype: str) -> str:
    """Return the JSON type of a field or feature."""
    return {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}[dtype]
