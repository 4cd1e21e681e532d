"""The version of an API: a digest of what callers can send and get.

Nobody has to count it up. Texts, examples and defaults do not change it; names, types and what is
required do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_TEXTS = frozenset({"description", "title", "default", "example", "examples", "deprecated"})
_deterministic = msgspec.json.Encoder(order="deterministic")


def operation_version(operation: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    """Return eight hex digits that name the shape of an operation.

    Parameters
    ----------
    operation : mapping
        Its parameters, but for headers, its request body and its 200 reply count.
    components : mapping
        The named schemas that it refers to.
    """
    parameters = [
        {key: parameter[key] for key in ("name", "in", "required", "schema")}
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "header"  # all operations share them
    ]
    body = operation.get("requestBody", {}).get("content")
    shape = (parameters, body, operation["responses"]["200"]["content"])
    named: dict[str, Any] = {}
    waiting = [*references(shape)]
    while waiting:
        name = waiting.pop()
        if name not in named:
            named[name] = components[name]
            waiting += references(components[name])
    return _digest(_without_texts([shape, named]))


def api_version(paths: Mapping[str, Any]) -> str:
    """Return eight hex digits over the versions of all operations under ``/api/``."""
    return _digest(
        [
            (path, method, operation["x-feilun-version"])
            for path, item in sorted(paths.items())
            for method, operation in sorted(item.items())
            if "x-feilun-version" in operation
        ]
    )


def references(part: Any) -> Iterator[str]:
    """Yield the name of each schema that something refers to."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].rpartition("/")[2]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from references(value)


def _without_texts(part: Any, *, names: bool = False) -> Any:
    """Take away what changes no shape; the keys of ``properties`` are names, whatever they say."""
    if isinstance(part, dict):
        return {
            key: _without_texts(value, names=key == "properties" and not names)
            for key, value in part.items()
            if names or key not in _TEXTS
        }
    if isinstance(part, list | tuple):
        return [_without_texts(value) for value in part]
    return part


def _digest(shape: Any) -> str:
    return hashlib.blake2b(_deterministic.encode(shape), digest_size=4).hexdigest()
