"""What events look like on the wire, made from their definitions once, at start.

One decoder takes a whole batch; where that fails, each item is decoded alone to learn why.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple, Protocol, Union

import msgspec

from feilun.definitions.specs import DType, EventSpec, FieldSpec, Project
from feilun.errors import InputError
from feilun.records.identity import ID_LIMIT

TEXT_LIMIT = 8_192
"""The most characters of a str field."""
KEY_LIMIT = 200
"""The most UTF-8 bytes of a str field that identifies an entity."""

_INT64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: Mapping[DType, Any] = {
    "int": _INT64,
    "float": float,
    "str": Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT)],
    "bool": bool,
}
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LIMIT)]
_Time = _INT64 | Annotated[datetime, msgspec.Meta(tz=True)]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>[^`]*)`")
_LENGTH = re.compile(r"^Expected array of length")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]*)`")


class Item(Protocol):
    """A decoded event: a generated class for each kind, tagged by ``event``."""

    fields: Any
    id: str | None
    time: int | datetime | None


class _Nothing(msgspec.Struct, tag_field="event", tag="", forbid_unknown_fields=True):
    """Keeps a project of a single event a tagged union, so that ``event`` is always required."""


class _Head(msgspec.Struct):
    event: Any = msgspec.UNSET
    id: Any = None


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """What one body holds: events, each an ``Item`` or still raw, and what goes for all."""

    events: list[Any]
    sent_at: _Time | None = None
    source: str | None = None


class _RawBatch(Batch, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class Shape(NamedTuple):
    """One kind of event: how to decode it, and which of its fields are checked beyond their types.

    ``schema`` is ``spec.schema_id``; ``texts``, ``keys`` (those of ``texts`` that identify an
    entity), ``vectors`` and ``subject`` are places of fields;
    ``about`` is what the name of its subject begins with.
    """

    spec: EventSpec
    schema: str
    texts: tuple[int, ...]
    keys: tuple[int, ...]
    vectors: tuple[int, ...]
    subject: int | None
    about: str
    item: Any
    decode: Callable[[msgspec.Raw], Item]

    def convert(self, event: Mapping[str, Any]) -> Item:
        """Make an event of Python values; text of a file becomes the number it writes."""
        item: Item = msgspec.convert(event, self.item, strict=False)
        return item

    def values(self, fields: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the fields of events in the order of the schema, checked beyond their types.

        Raises
        ------
        InputError
            If a str holds NUL, or identifies an entity in more than ``KEY_LIMIT`` bytes, or a
            vector holds a number that is not finite.
        """
        rows = list(map(msgspec.structs.astuple, fields))
        for place in self.texts:
            if "\0" in "".join([row[place] or "" for row in rows]):
                raise InputError(f"fields.{self.spec.fields[place].name}: holds the character NUL.")
        for place in self.keys:
            size = max([len((row[place] or "").encode()) for row in rows], default=0)
            if size > KEY_LIMIT:
                raise InputError(
                    f"fields.{self.spec.fields[place].name}: identifies an entity in {size} "
                    f"bytes of UTF-8; at most {KEY_LIMIT} may."
                )
        for place in self.vectors:
            if not all(all(map(math.isfinite, row[place] or ())) for row in rows):
                name = self.spec.fields[place].name
                raise InputError(f"fields.{name}: holds a number that is not finite.")
        return rows


class Shapes:
    """The decoders of one project's events."""

    def __init__(self, project: Project) -> None:
        self._by_name: dict[str, Shape] = {}
        self._by_class: dict[type, Shape] = {}
        classes: list[Any] = [_Nothing]
        for spec in project.events.values():
            shape = _shape(spec, project)
            self._by_name[spec.name] = self._by_class[shape.item] = shape
            if spec.table is None:  # what clients send; rows of tables come by synchronisation
                classes.append(shape.item)
        union: Any = Union.__getitem__(tuple(classes))
        items: Any = list.__class_getitem__(union)
        batch: Any = msgspec.defstruct(
            "ItemBatch", [("events", items)], bases=(Batch,), forbid_unknown_fields=True
        )
        self._items = msgspec.json.Decoder(items)
        self._batch = msgspec.json.Decoder(batch)

    def decode(self, raw: bytes) -> Batch | None:
        """Decode a body of many events in one call, or return None if some of it is wrong."""
        try:
            if _is_array(raw):
                return Batch(self._items.decode(raw))
            if b'"events"' not in raw:
                return None
            batch: Batch = self._batch.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return batch

    def of(self, kind: type) -> Shape:
        """Return the shape of the events that are decoded as ``kind``."""
        return self._by_class[kind]

    def named(self, name: str) -> Shape:
        """Return the shape of an event.

        Raises
        ------
        InputError
            If there is no event of that name.
        """
        if name not in self._by_name:
            raise InputError(f"event: there is no event {name!r}.", _nearest(name, self._by_name))
        return self._by_name[name]

    def decode_one(self, raw: msgspec.Raw) -> Item:
        """Decode one event alone.

        Raises
        ------
        InputError
            If it is not an event of this project; the message says which part is wrong and how.
        """
        try:
            name = _head(raw).event
            if not isinstance(name, str):
                what = "is missing" if name is msgspec.UNSET else "must be a str"
                raise InputError(f"event: {what}; it names the kind of event.")
        except msgspec.DecodeError as error:
            raise explain(None, error) from error
        shape = self.named(name)
        if shape.spec.table is not None:
            raise InputError(
                f"event: {name!r} is a table, and nobody sends its rows.",
                "Change them where they are, then run feilun sync.",
            )
        try:
            return shape.decode(raw)
        except UnicodeDecodeError as error:
            raise InputError(f"fields: not UTF-8: {error.reason}.") from error
        except msgspec.DecodeError as error:
            raise explain(shape.spec, error) from error


def id_of(raw: msgspec.Raw) -> str | None:
    """Return the id of an event that is otherwise bad, for its answer; None if it has none."""
    try:
        name = _head(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return name if isinstance(name, str) and 0 < len(name) <= ID_LIMIT else None


def explain(spec: EventSpec | None, error: msgspec.DecodeError) -> InputError:
    """Say what is wrong in the sender's terms: the field first, then the matter."""
    message = str(error)
    path = _PATH.search(message)
    where = (path["path"] if path else "") or "event"
    if unknown := _UNKNOWN.search(message):
        fields = spec.fields if spec and where == "fields" else ()
        known = [field.name for field in fields] or ["event", "id", "time", "fields"]
        return InputError(
            f"{where}: has no field {unknown['name']!r}.", _nearest(unknown["name"], known)
        )
    if missing := _MISSING.search(message):
        return InputError(f"{where}: lacks the field {missing['name']!r}.")
    what = _PATH.sub("", message).replace("`", "")
    if _LENGTH.search(what):
        name = where.rpartition(".")[2]
        dims = {field.name: field.dim for field in spec.fields} if spec else {}
        if dims.get(name):
            return InputError(f"{where}: expected an array of length {dims[name]}.")
    return InputError(f"{where}: {what[:1].lower()}{what[1:]}.")


def split(raw: bytes) -> Batch:
    """Split a body into its events, still raw.

    Raises
    ------
    InputError
        If the body as a whole cannot be read.
    """
    try:
        if _is_array(raw):
            return Batch(_raws(raw))
        if _object(raw).keys() & {"events", "sent_at", "source"}:
            return _raw_batch(raw)
        return Batch([msgspec.Raw(raw)])
    except UnicodeDecodeError as error:
        raise InputError(f"The body is not UTF-8: {error.reason}.") from error
    except RecursionError as error:
        raise InputError("The body is nested too deeply.") from error
    except msgspec.DecodeError as error:
        raise InputError(
            f"The body cannot be read: {error}.",
            "Send one event, an array of events, or an object with events.",
        ) from error


def _is_array(raw: bytes) -> bool:
    return raw.lstrip()[:1] == b"["


_head = msgspec.json.Decoder(_Head).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_batch = msgspec.json.Decoder(_RawBatch).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def to_microseconds(time: int | datetime) -> int:
    """Return a time of the wire in µs UTC.

    Examples
    --------
    >>> to_microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), to_microseconds(5)
    (1000000, 5)
    """
    return time if isinstance(time, int) else (time - _EPOCH) // _MICROSECOND


def _shape(spec: EventSpec, project: Project) -> Shape:
    names = [field.name for field in spec.fields]
    texts = _places(spec, "str")
    cls = _item_class(spec)
    return Shape(
        spec=spec,
        schema=spec.schema_id,
        texts=texts,
        keys=tuple(place for place in texts if names[place] in project.entities),
        vectors=_places(spec, "vector"),
        subject=None if spec.subject is None else names.index(spec.subject),
        about=f"{spec.subject}=",
        item=cls,
        decode=msgspec.json.Decoder(cls).decode,
    )


def _places(spec: EventSpec, dtype: DType) -> tuple[int, ...]:
    return tuple(place for place, field in enumerate(spec.fields) if field.dtype == dtype)


def _item_class(spec: EventSpec) -> Any:
    # Nothing decoded can hold itself, so the garbage collector need not look at it (gc=False).
    fields = msgspec.defstruct(
        f"{spec.name}_fields",
        [_field(field) for field in spec.fields],
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return msgspec.defstruct(
        spec.name,
        [("fields", fields), ("id", _Id | None, None), ("time", _Time | None, None)],
        tag_field="event",
        tag=spec.name,
        forbid_unknown_fields=True,
        gc=False,
    )


def _field(field: FieldSpec) -> Any:
    if field.dtype == "vector":  # JSON has no numbers that are not finite
        kind: Any = Annotated[list[float], msgspec.Meta(min_length=field.dim, max_length=field.dim)]
    else:
        kind = _TYPES[field.dtype]
    return (field.name, kind | None, None) if field.optional else (field.name, kind)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
