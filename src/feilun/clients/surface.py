"""What a client has to offer, read from the OpenAPI description."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from feilun.definitions.problems import READ_OPTIONS

_JSON = "application/json"
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a call."""

    name: str
    schema: Schema
    required: bool


@dataclass(frozen=True)
class Call:
    """One capability or view; ``reply`` names the schema of its reply.

    ``options`` are what the read may be asked for besides.
    """

    name: str
    path: str
    method: str
    text: str
    parameters: tuple[Parameter, ...]
    options: tuple[Parameter, ...]
    reply: str


@dataclass(frozen=True)
class Batch:
    """Many requests of one capability at once; ``request`` and ``answer`` are those of each."""

    name: str
    path: str
    text: str
    options: tuple[Parameter, ...]
    request: Schema
    answer: Schema


@dataclass(frozen=True)
class EventKind:
    """One kind of event that may be sent."""

    name: str
    text: str
    fields: Schema

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that it must have."""
        return tuple(self.fields.get("required", ()))

    @property
    def optional(self) -> tuple[str, ...]:
        """Its other fields."""
        fields = self.fields.get("properties", ())
        return tuple(name for name in fields if name not in self.required)


@dataclass(frozen=True)
class Surface:
    """A project's API, as clients see it."""

    title: str
    version: str
    calls: tuple[Call, ...]
    batches: tuple[Batch, ...]
    events: tuple[EventKind, ...]
    components: Mapping[str, Schema]


def read_surface(description: Mapping[str, Any]) -> Surface:
    """Return what a client offers of an API: its capabilities, its views and its events."""
    components = description["components"]["schemas"]
    calls, batches = [], []
    for path, item in description["paths"].items():
        for method, operation in item.items():
            kind = operation["tags"][0]
            if (kind, method) in (("capabilities", "post"), ("views", "get")):
                calls.append(_call(path, method, operation))
            elif kind == "batches":
                batches.append(_batch(path, operation))
    events = [
        EventKind(
            name.removeprefix("event."), schema["description"], schema["properties"]["fields"]
        )
        for name, schema in components.items()
        if name.startswith("event.")
    ]
    info = description["info"]
    return Surface(
        title=info["title"],
        version=info["version"],
        calls=tuple(calls),
        batches=tuple(batches),
        events=tuple(events),
        components=components,
    )


def _query(operation: Mapping[str, Any]) -> list[Parameter]:
    return [
        Parameter(each["name"], each["schema"], each["required"])
        for each in operation["parameters"]
        if each["in"] == "query"  # the headers are parameters of every call, by their own names
    ]


def _options(operation: Mapping[str, Any]) -> tuple[Parameter, ...]:
    return tuple(each for each in _query(operation) if each.name in READ_OPTIONS)


def _call(path: str, method: str, operation: Mapping[str, Any]) -> Call:
    if method == "post":
        body = operation["requestBody"]["content"][_JSON]["schema"]
        parameters = [
            Parameter(name, schema, name in body["required"])
            for name, schema in body["properties"].items()
        ]
    else:
        parameters = [each for each in _query(operation) if each.name not in READ_OPTIONS]
    reply = operation["responses"]["200"]["content"][_JSON]["schema"]["$ref"].rpartition("/")[2]
    return Call(
        name=path.rpartition("/")[2],
        path=path,
        method=method,
        text=operation["description"] or operation["summary"],
        parameters=tuple(parameters),
        options=_options(operation),
        reply=reply,
    )


def _batch(path: str, operation: Mapping[str, Any]) -> Batch:
    asked = operation["requestBody"]["content"][_JSON]["schema"]
    answered = operation["responses"]["200"]["content"][_JSON]["schema"]
    return Batch(
        name=path.split("/")[-2],
        path=path,
        text=operation["description"],
        options=_options(operation),
        request=asked["items"],
        answer=answered["properties"]["replies"]["items"],
    )


class Names:
    """Gives each thing a name that no other has.

    Examples
    --------
    >>> names = Names({"import"})
    >>> names.take("import"), names.take("a"), names.take("a")
    ('import_', 'a', 'a_')
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def take(self, name: str) -> str:
        """Return the name, with as many ``_`` at its end as make it unlike all others."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def file_stem(title: str) -> str:
    """Return how the files of a project's client begin.

    Examples
    --------
    >>> file_stem("my-shop"), file_stem("商店"), file_stem("../x")
    ('my_shop_client', 'project_client', 'x_client')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    plain = plain if plain[:1].isalpha() else f"project_{plain}".rstrip("_")
    return f"{plain}_client"


def type_name(name: str, ending: str = "") -> str:
    """Return how a type is called.

    Examples
    --------
    >>> type_name("user_profile", "Reply"), type_name("type.Point[int]"), type_name("2d")
    ('UserProfileReply', 'PointInt', 'T2d')
    """
    words = re.split(r"[^A-Za-z0-9]+", name.removeprefix("type."))
    joined = "".join(word[:1].upper() + word[1:] for word in words) + ending
    return joined if joined[:1].isalpha() else f"T{joined}"
