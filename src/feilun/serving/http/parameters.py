"""From the bytes of a query or a body to typed parameters. Nothing undeclared passes."""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from feilun.definitions.specs import CapabilitySpec, EntitySpec, ParameterSpec
from feilun.errors import InputError, TooLarge
from feilun.serving.http.exchange import QUERY_BYTES, Request
from feilun.serving.http.type_words import in_words, json_kind

KEY_BYTES = 200
"""The most UTF-8 bytes of a string that identifies an entity."""
QUERY_FIELDS = 1_000
_INT64 = range(-(2**63), 2**63)
_OPTIONS = ("min_offset", "as_of")
_PERSONALISED = "personalised"
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")
_AT = re.compile(r" - at (?P<key>`key` in )?`\$\.(?P<name>\w+)(?P<within>[^`]*)`$")
_GOT = re.compile(r"Expected `[^`]+`, got `(?P<kind>\w+)`")
"""What msgspec says of what does not fit."""


class ReadOptions(NamedTuple):
    """What every read may ask for: to see the record at an offset, and to stand at a time (µs).

    A capability may be asked to read nothing of its subject: ``personalised``.
    """

    min_offset: int | None = None
    as_of: int | None = None
    personalised: bool = True


class Query(NamedTuple):
    """A query, taken apart: what belongs to every read, and the parameters."""

    options: ReadOptions
    values: dict[str, list[str]]


def parse_query(query: bytes) -> Query:
    """Take a query apart.

    Raises
    ------
    InputError
        If it is not UTF-8, not ``name=value`` pairs, or an option is not a whole number.
    TooLarge
        If it is longer than ``QUERY_BYTES``.

    Examples
    --------
    >>> query = parse_query(b"user_id=7&min_offset=3")
    >>> query.options.min_offset, query.values
    (3, {'user_id': ['7']})
    """
    if not query:
        return Query(ReadOptions(), {})
    if len(query) > QUERY_BYTES:
        raise TooLarge(f"The query is longer than {QUERY_BYTES} bytes.", "Send a POST with JSON.")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
            max_num_fields=QUERY_FIELDS,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(
            "The query is not made of name=value pairs in UTF-8.",
            "Percent-encode names and values.",
        ) from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    options = [_offset(name, values.pop(name)) if name in values else None for name in _OPTIONS]
    return Query(ReadOptions(min_offset=options[0], as_of=options[1]), values)


def _offset(name: str, values: Sequence[str]) -> int:
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()):
        raise InputError(f"{name} must be one whole number.", f"Write {name}=123.")
    number = int(values[0]) if len(values[0]) < 20 else _INT64.stop
    if number not in _INT64:
        raise InputError(f"{name} is too large.", "It is a 64-bit number.")
    return number


def _truth(values: Sequence[str]) -> bool:
    if values not in (["true"], ["false"]):
        raise InputError(f"{_PERSONALISED} must be true or false.", f"Write {_PERSONALISED}=false.")
    return values == ["true"]


class Parameters:
    """The declared parameters of one route.

    Parameters
    ----------
    route : str
        Its path, for messages.
    declared : sequence of ParameterSpec
        Names, types and defaults.
    entities : mapping
        By parameter name, the entity that it identifies: such values have narrower bounds.
    personal : bool
        Whether the caller may ask for an answer that is not personalised.
    """

    def __init__(
        self,
        route: str,
        declared: Sequence[ParameterSpec],
        entities: Mapping[str, EntitySpec],
        *,
        personal: bool = False,
    ) -> None:
        self._route = route
        self._options = (*_OPTIONS, _PERSONALISED) if personal else _OPTIONS
        self._types = {p.name: in_words(p.annotation) for p in declared}
        self._names = tuple(self._types)
        # JSON has no number that is not finite, and those beyond a float's range are refused.
        self._unsure = tuple(p.name for p in declared if p.annotation is not float)
        self._entities = entities
        self._struct = msgspec.defstruct(
            "Parameters", [_field(p) for p in declared], forbid_unknown_fields=True, kw_only=True
        )
        self._decoder = msgspec.json.Decoder(self._struct)
        self._lists = frozenset(p.name for p in declared if is_list(p.annotation))

    def read(self, request: Request) -> tuple[dict[str, Any], ReadOptions]:
        """Return the parameters by name, typed, and the read options.

        A GET gives them in its query, a list as a repeated name; a POST as one JSON object.

        Raises
        ------
        InputError
            If one is missing, unknown, of another type, or out of bounds.
        """
        query = parse_query(request.query)
        options = query.options
        if _PERSONALISED in self._options and _PERSONALISED in query.values:
            options = options._replace(personalised=_truth(query.values.pop(_PERSONALISED)))
        if request.method == "GET":
            parameters, unsure = self._from_query(query.values), self._names
        else:
            if query.values:
                raise InputError(
                    f"A POST to {self._route} takes its parameters in the body.",
                    f"Only {' and '.join(self._options)} may be in the query.",
                )
            parameters, unsure = self._from_body(request.body), self._unsure
        for name in unsure:
            value = parameters[name]
            if type(value) is list:
                self._check_list(name, value)
            else:
                self._check_value(name, value)
        return parameters, options

    def _from_query(self, values: Mapping[str, list[str]]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, given in values.items():
            if name not in self._names:
                raise self._unknown(name)
            if name not in self._lists and len(given) > 1:
                raise InputError(f"The parameter {name} is given {len(given)} times.", "Once.")
            flat[name] = given if name in self._lists else given[0]
        try:
            return msgspec.structs.asdict(msgspec.convert(flat, self._struct, strict=False))
        except msgspec.ValidationError as error:
            raise self._unusable(error, flat) from error

    def _from_body(self, body: bytes) -> dict[str, Any]:
        try:
            return msgspec.structs.asdict(self._decoder.decode(body))
        except msgspec.ValidationError as error:
            raise self._unknown_in(body) or self._unusable(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"The body is not JSON: {error}.", "Send one JSON object.") from error
        except RecursionError as error:
            raise TooLarge("The body is nested too deeply.", "Send one flat object.") from error

    def _unknown_in(self, body: bytes) -> InputError | None:
        """Return what is wrong with the names of a body that did not fit, if it is the names."""
        try:
            sent = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            return None
        names = sent if isinstance(sent, dict) else ()
        return next((self._unknown(name) for name in names if name not in self._names), None)

    def _check_list(self, name: str, values: list[Any]) -> None:
        """Check a list, which holds values of one type: as they were declared, and decoded."""
        numbers = values and type(values[0]) is int and set(map(type, values)) == {int}
        if numbers and min(values) in _INT64 and max(values) in _INT64:
            return
        for value in values:
            self._check_value(name, value)

    def _check_value(self, name: str, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"The parameter {name} is not a finite number.", "Leave it out.")
        if isinstance(value, int) and value not in _INT64:
            raise InputError(f"The parameter {name} is beyond 64 bits.", "Check the value.")
        if name in self._entities:
            check_key(self._entities[name], value)

    def _unknown(self, name: str) -> InputError:
        near = difflib.get_close_matches(name, self._names, 1)
        taken = ", ".join(self._names) or "none"
        return InputError(
            f"{self._route} has no parameter {name[:64]!r}.",
            f"Did you mean {near[0]!r}?" if near else f"It takes: {taken}.",
        )

    def _unusable(
        self, error: msgspec.ValidationError, query: Mapping[str, Any] | None = None
    ) -> InputError:
        """Return what is wrong, in the caller's words: the parameter, and what it has to be."""
        said = str(error)
        missing, at, got = _MISSING.search(said), _AT.search(said), _GOT.match(said)
        if missing is not None and at is None:
            name = missing["name"]
            return InputError(
                f"{self._route} needs the parameter {name}: {self._types[name]}.",
                "/docs shows an example of the request.",
            )
        if at is None:
            kind = json_kind(got["kind"]) if got else "something else"
            return InputError(f"The body is {kind}.", "Send one JSON object with the parameters.")
        name, within = at["name"], at["within"]
        place = f" at {within}" if within else ""
        place += " as a key" if at["key"] else ""
        if query is not None:
            found = f"it is {str(query[name])[:64]!r}"
            found += "" if got else f" ({_AT.sub('', said)})"
        elif got is not None:
            found = f"it {'has' if place else 'is'} {json_kind(got['kind'])}{place}"
        else:
            found = f"it does not fit{place}: {_AT.sub('', said)}"
        return InputError(
            f"The parameter {name} of {self._route} must be {self._types[name]}; {found}.",
            "/docs shows an example of the request.",
        )


def check_key(entity: EntitySpec, value: Any) -> None:
    """Refuse a value that cannot identify an entity.

    Raises
    ------
    InputError
        If it is of another type, an integer beyond 64 bits, or a string above ``KEY_BYTES``.
    """
    if entity.dtype == "int":
        if type(value) is not int or value not in _INT64:
            raise InputError(f"{entity.name} must be a 64-bit whole number.", "Check the value.")
    elif not isinstance(value, str) or not value or len(value.encode()) > KEY_BYTES:
        raise InputError(
            f"{entity.name} must be a string of 1 to {KEY_BYTES} UTF-8 bytes.", "Check the value."
        )


def check_keys(entity: EntitySpec, values: Sequence[Any]) -> None:
    """Refuse values that cannot identify entities, as `check_key` does."""
    if len(values) > 2 and entity.dtype == "int" and set(map(type, values)) == {int}:
        values = [min(values), max(values)]
    for value in values:
        check_key(entity, value)


def is_list(annotation: Any) -> bool:
    """Say whether a parameter takes several values."""
    kind = msgspec.inspect.type_info(annotation)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    return any(isinstance(k, msgspec.inspect.CollectionType) for k in kinds)


def keys_of(spec: CapabilitySpec, entities: Mapping[str, EntitySpec]) -> tuple[str, ...]:
    """Return the entities that a request names one of, the one it is about first."""
    return tuple(
        p.name for p in spec.parameters if p.name in entities and not is_list(p.annotation)
    )


def _field(parameter: ParameterSpec) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.required:
        return (parameter.name, parameter.annotation)
    default = parameter.default
    # A copy for each request: the user's function may change what it is given.
    return (
        parameter.name,
        parameter.annotation,
        msgspec.field(default_factory=lambda: copy.copy(default)),
    )
