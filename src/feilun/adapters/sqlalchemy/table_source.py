"""`TableSource` on any database that SQLAlchemy speaks to.

A read is one ordered ``SELECT`` from the watermark on, less the lookback, streamed from the
server. Statements are built from typed columns, so that names are quoted by SQLAlchemy and values
are bound; nothing but ``SELECT`` is ever sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from feilun.errors import ConfigError, FeilunError, InputError, MissingExtra, Unavailable
from feilun.ports.table_source import (
    CHUNK_ROWS,
    Chunk,
    TableQuery,
    check_columns,
    unknown_table,
)
from feilun.records.times import to_time, to_time_like

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Select, TableClause

_PART = "rows"
_UNTIMED_ROWS = 1_000
"""How many rows without a time are looked at: enough to see that something is wrong."""

_SECRET_WORDS = ("pass", "pwd", "secret", "token", "key")
"""A URL's query parameter with one of these in its name holds something to hide."""


class SqlTableSource:
    """Reads tables and views of one database.

    Parameters
    ----------
    name : str
        What feilun.toml calls the source, for messages.
    url : str
        Where the database is, as SQLAlchemy writes it. It is never shown: it may hold a password.
    root : Path
        The folder to which a SQLite file's relative path belongs.

    Raises
    ------
    ConfigError
        If the URL is not one, its driver is not installed, or a SQLite file is not there.
    MissingExtra
        If SQLAlchemy is not installed.
    """

    def __init__(self, name: str, url: str, root: Path) -> None:
        try:
            import sqlalchemy
        except ImportError as error:
            raise MissingExtra("sqlalchemy", "sql") from error
        self._sql = sqlalchemy
        self._name = name
        self._secrets: tuple[str, ...] = (url,)
        self._engine = self._connect(url, root)

    def _connect(self, url: str, root: Path) -> Engine:
        try:
            parsed = self._sql.make_url(url)
        except self._sql.exc.ArgumentError:
            raise ConfigError(
                f"[sources.{self._name}] url is not a database's URL.",
                "Write postgresql+psycopg://user:${PASSWORD}@host/database, or such.",
            ) from None  # the error quotes the URL
        self._secrets = _secrets(url, parsed)
        if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
            file = root / str(parsed.database)
            if not file.is_file():
                raise ConfigError(f"[sources.{self._name}] url: there is no file {file}.")
            parsed = parsed.set(database=str(file))
        try:
            return self._sql.create_engine(
                parsed, poolclass=self._sql.pool.NullPool, hide_parameters=True
            )
        except self._sql.exc.NoSuchModuleError as error:
            raise ConfigError(
                f"[sources.{self._name}] url: SQLAlchemy knows no {parsed.drivername}.",
                "Install the package of its dialect, or mend the URL.",
            ) from error
        except ImportError as error:
            raise ConfigError(
                f"[sources.{self._name}] url: the driver of {parsed.drivername} is not installed "
                f"({error}).",
                "Install it, such as: pip install psycopg[binary]",
            ) from error

    def read(self, query: TableQuery, marks: Mapping[str, str]) -> Iterator[Chunk]:
        """Return rows in the order of their times, after those that have none."""
        with self._errors(query.table), self._engine.connect() as connection:
            connection.execution_options(postgresql_readonly=True)
            found = self._find(connection, query)
            untimed = found.select.where(found.time.is_(None)).limit(_UNTIMED_ROWS)
            for rows in _rows(connection, untimed):
                yield Chunk(rows, _PART, "")
            yield from self._timed(connection, query, found, marks.get(_PART))

    def _find(self, connection: Connection, query: TableQuery) -> _Found:
        """Return the table with the columns to read, or say what there is instead."""
        schema, _dot, table = query.table.rpartition(".")
        inspector = self._sql.inspect(connection)
        try:
            columns = [c["name"] for c in inspector.get_columns(table, schema or None)]
        except self._sql.exc.NoSuchTableError as error:
            known = inspector.get_table_names(schema or None)
            known += inspector.get_view_names(schema or None)
            raise unknown_table(self._name, query.table, known) from error
        names = check_columns(self._name, query, columns)
        clause: TableClause = self._sql.table(
            table, *(self._sql.column(name) for name in names), schema=schema or None
        )
        return _Found(clause.select(), clause.c[query.time])

    def _timed(
        self, connection: Connection, query: TableQuery, found: _Found, mark: str | None
    ) -> Iterator[Chunk]:
        newest = connection.execute(
            found.select.with_only_columns(self._sql.func.max(found.time))
        ).scalar()
        if newest is None:
            return
        zone = ZoneInfo(query.timezone)
        after, until = _bounds(newest, query, mark, zone)
        select = found.select.where(found.time.is_not(None)).order_by(found.time)
        if until is not None:
            select = select.where(found.time <= until)
        if after is not None:
            select = select.where(found.time >= after)
        furthest = int(mark or 0)  # looking back must not set the mark back
        for rows in _rows(connection, select):
            furthest = max([furthest, *(_time(row[query.time], zone) for row in rows)])
            yield Chunk(rows, _PART, str(furthest))

    def close(self) -> None:
        """Give back what it holds."""
        self._engine.dispose()

    @contextmanager
    def _errors(self, table: str) -> Iterator[None]:
        try:
            yield
        except self._sql.exc.SQLAlchemyError as error:
            translated = self._translated(table, error)
            hides = self._hidden(str(error)) != str(error)
            raise translated from (None if hides else error)

    def _translated(self, table: str, error: Exception) -> FeilunError:
        cause = getattr(error, "orig", None) or error
        reason = self._hidden(" ".join(str(cause).split()))[:500]
        said = f"The source {self._name} failed while {table} was read: {reason}"
        if isinstance(error, self._sql.exc.ProgrammingError):
            return InputError(said, "Check the table, and the rights of the user that reads it.")
        return Unavailable(said, "It is tried again; see that the database answers.")

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Found(NamedTuple):
    """A statement that reads every row, and the column of their times."""

    select: Select[Any]
    time: Any


def _rows(connection: Connection, select: Select[Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Stream the rows of a statement from the server."""
    streamed = connection.execution_options(yield_per=CHUNK_ROWS).execute(select)
    with streamed:
        for rows in streamed.mappings().partitions():
            yield [dict(row) for row in rows]


def _bounds(newest: Any, query: TableQuery, mark: str | None, zone: ZoneInfo) -> tuple[Any, Any]:
    """Return the first and the last time to read, as the column writes times.

    Where text is not a time, none can be compared, and every row is read to find those that are.
    """
    try:
        behind = to_time(newest, zone) <= query.until
        until = newest if behind else to_time_like(newest, query.until, zone)
        if mark is None:
            return None, until
        return to_time_like(newest, int(mark) - query.lookback, zone), until
    except (ValueError, OverflowError):
        return None, None


def _time(value: Any, zone: ZoneInfo) -> int:
    """Return a row's time, or 0 where it is none: the sync says what is wrong with it."""
    try:
        return to_time(value, zone)
    except (ValueError, OverflowError):
        return 0


def _secrets(url: str, parsed: URL) -> tuple[str, ...]:
    """Return what no message may quote: the URL, and its passwords as it writes and means them."""
    written = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    said = [
        value
        for name in parsed.query
        if any(word in name.lower() for word in _SECRET_WORDS)
        for value in parsed.normalized_query[name]
    ]
    return tuple(filter(None, (url, written, parsed.password, *said)))
