"""A table source: rows of a database, of files or of a lake, read a little at a time."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from feilun.errors import InputError, UnknownName

CHUNK_ROWS = 5_000
"""The most rows of a chunk, so that a table of any size is read in bounded memory."""
_LISTED = 20


class TableQuery(NamedTuple):
    """What to read of a table.

    Attributes
    ----------
    table : str
        The table as the source calls it; a schema goes before it with a dot.
    columns : tuple of str
        Columns that must be there.
    optional : tuple of str
        More columns, which may be absent.
    time : str
        The column by which rows are ordered; one of ``columns``.
    until : int
        Rows of later times (µs UTC) need not come: they are left for a later read.
    lookback : int
        How far behind the newest row read (µs) others may still turn up.
    timezone : str
        The zone of times that do not say theirs.
    """

    table: str
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    time: str
    until: int
    lookback: int
    timezone: str


class Chunk(NamedTuple):
    """Some rows, and how far reading has come with them.

    ``mark`` says how far ``part`` of the table has been read once these rows are kept; it is empty
    where there is nothing to remember yet. What a mark says only its source knows.
    """

    rows: Sequence[Mapping[str, Any]]
    part: str
    mark: str


class TableSource(Protocol):
    """Where tables are read from. It is only ever read."""

    def read(self, query: TableQuery, marks: Mapping[str, str]) -> Iterator[Chunk]:
        """Return rows, at most ``CHUNK_ROWS`` at a time: all that no mark says were read.

        Called by each sync, with the newest mark of each part that was kept; without marks the
        whole table is read. A row may come again, any number of times; none is left out for good,
        however often reading is broken off and begun again with the marks so far. Rows without a
        time come too, a thousand of them at the least.

        Raises
        ------
        InputError
            If the source has no such table or lacks a column; the message says what it has.
        ConfigError
            If the source cannot be used as feilun.toml describes it.
        MissingExtra
            If a library that it needs is not installed.
        Unavailable
            If the source cannot be reached or fails; a later try may go on.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...


def unknown_table(source: str, table: str, known: Sequence[str]) -> UnknownName:
    """Return the error for a table that a source does not have."""
    return UnknownName(f"The source {source} has no table {table!r}.", _hint(table, known))


def check_columns(source: str, query: TableQuery, found: Sequence[str]) -> tuple[str, ...]:
    """Return the columns to read, each once: those that must be there, and of the others which is.

    Raises
    ------
    InputError
        If one that must be there is not.
    """
    for name in query.columns:
        if name not in found:
            raise InputError(
                f"{query.table} of the source {source} has no column {name!r}.", _hint(name, found)
            )
    also = [name for name in query.optional if name in found]
    return tuple(dict.fromkeys([*query.columns, *also]))


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    listed = ", ".join(sorted(known)[:_LISTED])
    return f"It has: {listed}{', …' if len(known) > _LISTED else ''}." if known else "It has none."
