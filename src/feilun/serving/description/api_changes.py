"""Which changes of an API its callers of today could not bear.

What an API took it must go on taking, and what it answers now must be what callers were told to
expect. So a request may get optional parameters and wider types, a reply more and narrower ones;
nothing is renamed or taken away. What cannot be so is made beside the old one, under a new name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feilun.errors import Problem

Schema = Mapping[str, Any]
_FIX = "Keep it as it was, and make the new one beside it under another name."
_LOWER = ("minItems", "minLength", "minimum")
_UPPER = ("maxItems", "maxLength", "maximum")
_OPERATION = "x-feilun-version"


def breaking_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Problem]:
    """Return what callers of the API that ``old`` describes could not bear of ``new``."""
    asked = _Fit(old["components"]["schemas"], new["components"]["schemas"])
    answered = _Fit(new["components"]["schemas"], old["components"]["schemas"])
    found = []
    for path, item in old["paths"].items():
        for method, before in item.items():
            now = new["paths"].get(path, {}).get(method)
            if _OPERATION not in before or (now and now.get(_OPERATION) == before[_OPERATION]):
                continue
            where = f"{method.upper()} {path}"
            if now is None:
                found.append(Problem(where, "is gone.", _FIX))
                continue
            if "events" in before["tags"]:
                requests = _events(old["components"]["schemas"])
                reasons = [
                    *asked.misfits(requests, _events(new["components"]["schemas"]), "events")
                ]
            else:
                reasons = [*asked.misfits(_request(before), _request(now), "request")]
            reasons += [
                *answered.misfits(_reply(now), _reply(before), "reply"),
            ]
            found += [Problem(where, reason, _FIX) for reason in dict.fromkeys(reasons)]
    return found


def _request(operation: Mapping[str, Any]) -> Schema:
    """Return everything that a request holds as the schema of one object."""
    parameters = operation.get("parameters", ())
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    properties = {each["name"]: each["schema"] for each in parameters}
    required = [each["name"] for each in parameters if each["required"]]
    if body is not None:
        properties, required = {**properties, "body": body["schema"]}, [*required, "body"]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _events(components: Mapping[str, Schema]) -> Schema:
    """Return every event by its name as the schema of one object: a body is made of them."""
    names = [name.removeprefix("event.") for name in components if name.startswith("event.")]
    return {
        "type": "object",
        "properties": {name: components[f"event.{name}"] for name in names},
        "additionalProperties": False,
    }


def _reply(operation: Mapping[str, Any]) -> Schema:
    schema: Schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


class _Fit:
    """Says why some value of one schema would not fit another; each has its own components.

    An object is taken to hold what its schema names and nothing else, though most would allow it.
    """

    def __init__(self, given: Mapping[str, Schema], taken: Mapping[str, Schema]) -> None:
        self._given = given
        self._taken = taken
        self._open: set[tuple[str, str]] = set()

    def misfits(self, given: Schema, taken: Schema, where: str) -> Iterator[str]:
        """Yield the reasons, none if everything fits."""
        names = (given.get("$ref", ""), taken.get("$ref", ""))
        if all(names) and names in self._open:
            return  # a type that holds itself fits if its parts do
        self._open.add(names)
        whole, wanted = _resolved(given, self._given), _resolved(taken, self._taken)
        if "anyOf" in whole:
            for option in whole["anyOf"]:
                yield from self.misfits(option, taken, where)
        elif "anyOf" in wanted:
            yield from self._one_of(given, wanted["anyOf"], where)
        elif wanted.keys() & {"type", "enum", "const", "not"}:
            yield from self._plain(whole, wanted, where)
        self._open.discard(names)

    def _one_of(self, given: Schema, options: list[Schema], where: str) -> Iterator[str]:
        """Yield why a value fits none of the options: of the one that it comes nearest to."""
        tried = [list(self.misfits(given, option, where)) for option in options]
        if all(tried):
            nearest = max(tried, key=lambda reasons: len(reasons[0].partition(":")[0]))
            if nearest[0].startswith(f"{where}:"):  # it was not looked into
                shown = _shown(_resolved(given, self._given))
                nearest = [f"{where}: {shown} does not fit any more."]
            yield from nearest

    def _plain(self, given: Schema, taken: Schema, where: str) -> Iterator[str]:
        values, allowed = _values(given), _values(taken)
        if allowed is not None:
            if values is None or not all(value in allowed for value in values):
                yield f"{where}: it was {_shown(given)} where only {_shown(taken)} fits."
            return
        kinds, known = _kinds(given), _kinds(taken)
        if not kinds or any(
            kind not in known and not (kind == "integer" and "number" in known) for kind in kinds
        ):
            yield f"{where}: {_shown(given)} does not fit {_shown(taken)}."
        elif _is_narrower(given, taken):
            yield f"{where}: its bounds have become narrower."
        elif "array" in kinds:
            yield from self._array(given, taken, where)
        elif "object" in kinds:
            yield from self._object(given, taken, where)

    def _array(self, given: Schema, taken: Schema, where: str) -> Iterator[str]:
        """Compare the first items, which may have schemas of their own, then all others."""
        has, wants = given.get("prefixItems", ()), taken.get("prefixItems", ())
        others, known = given.get("items", {}), taken.get("items", {})
        for place in range(max(len(has), len(wants))):
            item = has[place] if place < len(has) else others
            wanted = wants[place] if place < len(wants) else known
            if isinstance(item, dict) and isinstance(wanted, dict):
                yield from self.misfits(item, wanted, f"{where}[{place}]")
        if isinstance(others, dict) and isinstance(known, dict):
            yield from self.misfits(others, known, f"{where}[]")
        elif isinstance(others, dict) and "maxItems" not in given:
            yield f"{where}: it may have more items than are taken."

    def _object(self, given: Schema, taken: Schema, where: str) -> Iterator[str]:
        has, wants = given.get("properties", {}), taken.get("properties", {})
        for name in taken.get("required", ()):
            if name not in given.get("required", ()):
                yield f"{where}.{name}: it is required, and was or is not there always."
        for name, schema in has.items():
            if name in wants:
                yield from self.misfits(schema, wants[name], f"{where}.{name}")
            else:
                yield from self._another(schema, taken, f"{where}.{name}")
        values = given.get("additionalProperties")
        if isinstance(values, dict):
            yield from self._another(values, taken, f"{where}.*")
            for name in sorted(wants.keys() - has.keys()):
                yield from self.misfits(values, wants[name], f"{where}.{name}")

    def _another(self, given: Schema, taken: Schema, where: str) -> Iterator[str]:
        """Yield why an object does not take a value under a name that it does not know."""
        known = taken.get("additionalProperties", {})
        if isinstance(known, dict):
            yield from self.misfits(given, known, where)
        elif not known:
            yield f"{where}: it is not taken any more."


def _resolved(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return schema


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _kinds(schema: Schema) -> list[str]:
    values = _values(schema)
    if values is not None:
        names = {str: "string", bool: "boolean", int: "integer", float: "number"}
        return [names.get(type(value), "null") for value in values]
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _is_narrower(given: Schema, taken: Schema) -> bool:
    return any(name in taken and given.get(name, -1) < taken[name] for name in _LOWER) or any(
        name in taken and given.get(name, float("inf")) > taken[name] for name in _UPPER
    )


def _shown(schema: Schema) -> str:
    if "title" in schema:
        return str(schema["title"])
    values = _values(schema)
    if values is not None:
        return " or ".join(map(repr, values))
    return " or ".join(_kinds(schema)) or "anything"
