"""Compiles what a table says of its source, and says what is wrong with it."""

# What users give is looked at here whatever type it was declared with, so pyright's strict mode,
# which takes declarations at their word, does not fit.
# pyright: standard

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from feilun.definitions.compile_features import missing_key
from feilun.definitions.problems import nearest
from feilun.definitions.scope import Scope
from feilun.definitions.specs import EventSpec, TableSpec
from feilun.definitions.tables import TableDeclaration
from feilun.definitions.views import Entity
from feilun.definitions.windows import WindowError, parse_duration

SOURCE = re.compile(r"(?P<source>[a-z][a-z0-9_]{0,62})\.(?P<table>[\w$ -]+(\.[\w$ -]+)*)")
"""A source's name, then what the source calls the table: words with dots between them."""


def compile_table(
    event: EventSpec, declaration: TableDeclaration, where: str, scope: Scope
) -> EventSpec:
    """Return the event as a table's; the problems found make it of no use."""
    return _Compiler(event, declaration, where, scope).compile()


@dataclass(frozen=True, slots=True)
class _Compiler:
    event: EventSpec
    declaration: TableDeclaration
    where: str
    scope: Scope

    def compile(self) -> EventSpec:
        said = self.declaration
        source, table = self._source()
        spec = TableSpec(
            source=source,
            table=table,
            key=self._key(),
            time=self._column("time=", said.time),
            columns=self._columns(),
            every=self._duration("every=", said.every),
            lookback=self._duration("lookback=", said.lookback) or 0,
            available=self._available(),
        )
        return replace(self.event, table=spec)

    def _source(self) -> tuple[str, str]:
        said = self.declaration.source
        match = SOURCE.fullmatch(said) if isinstance(said, str) else None
        if match is None:
            self._add(
                f"source={said!r} does not name a table.",
                'Write a source of feilun.toml and the table in it: "warehouse.stock".',
            )
            return "", ""
        return match["source"], match["table"]

    def _key(self) -> tuple[str, ...]:
        said = self.declaration.key
        if not said or not all(isinstance(entity, Entity) for entity in said):
            self._add(f"key={said!r} is not entities.", "Write key=item, or key=(user, item).")
            return ()
        for entity in said:
            spec = self.scope.entities.get(entity.name)
            problem = missing_key(self.event, spec) if spec else None
            if problem is not None:
                self._add(*problem)
        return tuple(entity.name for entity in said)

    def _columns(self) -> tuple[str, ...]:
        said = self.declaration.columns
        names = [field.name for field in self.event.fields]
        if not isinstance(said, Mapping):
            self._add(f"columns={said!r} is not a mapping.", 'Write columns={"item_id": "ItemNo"}.')
            return ()
        for name in said:
            if name not in names:
                self._add(f"columns= names {name!r}, which is not a field.", nearest(name, names))
        return tuple(
            self._column(f"columns= of {name!r}", said[name]) if name in said else name
            for name in names
        )

    def _available(self) -> str | int | None:
        said = self.declaration
        if said.available_at is None:
            return self._duration("delay=", said.delay)
        if said.delay is not None:
            self._add("available_at= and delay= exclude each other.", "Keep one of them.")
        return self._column("available_at=", said.available_at)

    def _column(self, what: str, name: object) -> str:
        if isinstance(name, str) and name:
            return name
        self._add(f"{what} {name!r} is not the name of a column.", "Write it in quotes.")
        return ""

    def _duration(self, what: str, text: object) -> int | None:
        if text is None:
            return None
        try:
            return parse_duration(text)
        except WindowError as error:
            self._add(f"{what} {error.what}", error.fix)
            return None

    def _add(self, what: str, fix: str) -> None:
        self.scope.problems.add(self.where, what, fix)
