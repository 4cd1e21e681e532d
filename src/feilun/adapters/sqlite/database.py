"""One SQLite file: its one connection per process, and what its errors mean.

Every process of the platform opens the file for itself. Writes are durable when they return
(WAL with ``synchronous=FULL``) and take turns across processes; reads never wait for a writer.
The version of its `schema` is ``PRAGMA user_version``; an older file is brought up to date when
it is opened.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feilun.adapters.sqlite.schema import SCHEMA_VERSION, SCHEMAS
from feilun.errors import ConfigError, CorruptData, FeilunError, StoreFull, Unavailable

BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction; those take milliseconds."""


class Database:
    """A process's way into ``platform.db``. Threads share it; they take turns.

    Each use is of the file that lies at ``path`` then: one that was put back from a copy, or
    mended, counts from the next use on. A file that has gone is an error and is never made a second
    time: an empty one would know of no key, and of nothing that was in production.

    Parameters
    ----------
    path : Path
        The file.
    new : bool
        Whether it is opened now, and made, with its folder, where it is missing. Otherwise it must
        be there when it is used.

    Raises
    ------
    ConfigError
        If the file cannot be opened, or was written by a newer Feilun.
    CorruptData
        If it is not a database.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._place = (0, 0)
        self._openings = 0
        self._closed = False
        if new:
            self._make_file()
            with self._lock, self._errors():
                self._open(new=True)

    def _make_file(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be made: {error.strerror}.",
                "Choose a data folder that can be written in feilun.toml.",
            ) from error

    def _in_place(self) -> sqlite3.Connection:
        """Return a connection to the file that lies at ``path`` now. Called within the lock."""
        if self._closed:
            raise FeilunError(f"{self.path} is used after it was closed.")
        if self._connection is None or self._find() != self._place:
            # The old file goes on being readable, and would for ever say what it said.
            self._drop()
            return self._open()
        return self._connection

    def _find(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise _lost(self.path, "is gone") from error
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be found: {error.strerror}.") from error
        return found.st_dev, found.st_ino

    def _open(self, *, new: bool = False) -> sqlite3.Connection:
        place = self._find()  # first: a file that takes its place meanwhile is opened next time
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._prepare(connection, new=new)
        except BaseException:
            connection.close()
            raise
        self._connection, self._place = connection, place
        self._openings += 1
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prepare(self, connection: sqlite3.Connection, *, new: bool) -> None:
        execute = connection.execute
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA recursive_triggers = ON")  # else REPLACE would get past the triggers
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{self.path} was written by a newer Feilun "
                f"(schema {version}; this one knows {SCHEMA_VERSION}).",
                "Upgrade Feilun, or point [platform] data at another folder.",
            )
        if version == 0 and not new:
            raise _lost(self.path, "is empty")
        _use_wal(connection)
        if version == SCHEMA_VERSION:
            return
        # Two processes may come here at once: the second finds the schema made.
        with _write_lock(connection):
            version = execute("PRAGMA user_version").fetchone()[0]
            for added in SCHEMAS[version:]:
                for statement in _statements(added):
                    execute(statement)
            execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")

    def check(self) -> None:
        """Raise what a use of the file would raise: it is gone, damaged, or of a newer Feilun."""
        self.read("SELECT 1 FROM sqlite_schema LIMIT 1")

    def state(self) -> tuple[int, int]:
        """Return what differs as soon as another connection has committed, or the file is another.

        Cheaper than reading what may have changed.
        """
        ((version,),) = self.read("PRAGMA data_version")
        return self._openings, version

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of one SELECT. Cheap: gateways poll through here."""
        self._stay_in_process()
        with self._lock, self._errors():
            return self._in_place().execute(query, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within one transaction, durable when the block ends.

        The transaction holds the write lock from its start, so that what it reads cannot change
        before it writes: fences are compared here.
        """
        self._stay_in_process()
        with self._lock, self._errors():
            connection = self._in_place()
            with _write_lock(connection):
                yield connection

    def _stay_in_process(self) -> None:
        if self._pid != os.getpid():  # neither a connection nor a lock may cross a fork
            self._pid, self._lock, self._connection = os.getpid(), threading.RLock(), None

    def close(self) -> None:
        """Give the connection back; further calls are errors."""
        with self._lock:
            self._closed = True
            self._drop()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            found = _translated(error, self.path)
            if isinstance(found, CorruptData):
                self._drop()  # it may be mended in its place
            raise found from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite does not wait for this lock by itself, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _write_lock(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script where SQLite itself sees the end of a statement."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _lost(path: Path, how: str) -> ConfigError:
    return ConfigError(
        f"{path} {how}, which held the teams, their keys, and what is in production.",
        "Put it back from a backup. If there is none, stop the platform and begin a new one: "
        "feilun recover",
    )


def _translated(error: sqlite3.Error, path: Path) -> FeilunError:
    code: Any = getattr(error, "sqlite_errorcode", 0)
    primary = (code or 0) & 0xFF  # the low byte is the kind, the rest the detail
    # Without space not even what the processes share of a file can be laid out.
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(f"No space left for {path}.", "Free some; nothing was written.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            f"{path} was held by another process for {BUSY_SECONDS:.0f} s.", "Try again."
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptData(
            f"{path} is not a sound database: {error}.", "Restore it from a copy; it is kept as is."
        )
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigError(
            f"{path} cannot be opened for writing: {error}.",
            "Check the permissions of the data folder.",
        )
    return FeilunError(f"{path}: {error}.")
