"""Events and entities, as definitions of them compile."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

DType = Literal["int", "float", "str", "bool", "vector"]


def digest(*parts: object) -> str:
    """Return a short, stable name for ``parts`` (16 hex digits of BLAKE2b over their reprs)."""
    text = "\x1f".join(repr(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class EntitySpec:
    """Something that features describe, and the column that identifies it."""

    name: str
    dtype: Literal["int", "str"]
    description: str = ""


@dataclass(frozen=True)
class FieldSpec:
    """One field of an event. A ``vector`` has ``dim`` float64 numbers.

    A ``deprecated`` field is still taken, and features over it still work; new ones should not.
    """

    name: str
    dtype: DType
    optional: bool = False
    dim: int = 0
    deprecated: bool = dataclasses.field(default=False, compare=False)


@dataclass(frozen=True)
class TableSpec:
    """Where the rows of a table come from. Names of columns are the source's own.

    ``source`` is a name in ``feilun.toml`` and ``table`` what the source calls the table. ``key``
    are the fields that name a row, ``time`` is the column that says when a row became what it is,
    ``columns`` has the column of each field, in the order of the fields. ``every`` is how often
    to synchronise (None: only when told to), ``lookback`` how far behind the newest row a sync
    looks again; both in µs. ``available`` is the column that says when a row became known, or a
    delay after its time in µs; None: when it was synchronised.
    """

    source: str
    table: str
    key: tuple[str, ...]
    time: str
    columns: tuple[str, ...]
    every: int | None
    lookback: int
    available: str | int | None = None


@dataclass(frozen=True)
class EventSpec:
    """A kind of event. ``subject`` is the field that says whom a record is about, if any.

    The events of a ``table`` are its rows: they come by synchronisation and no other way.
    """

    name: str
    version: int
    fields: tuple[FieldSpec, ...]
    subject: str | None
    owner: str = ""
    description: str = ""
    table: TableSpec | None = None

    @cached_property
    def schema_id(self) -> str:
        """The name under which records of exactly this shape are stored."""
        shape = tuple(
            (f.name, f.dtype, f.optional, *((f.dim,) if f.dim else ())) for f in self.fields
        )
        return f"{self.name}.v{self.version}.{digest(shape)[:8]}"
