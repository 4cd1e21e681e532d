"""One SQLite file: its schema, its one connection per process, and what its errors mean.

Every process of the platform opens the file for itself. Writes are durable when they return
(WAL with ``synchronous=FULL``) and take turns across processes; reads never wait for a writer.
The schema's version is ``PRAGMA user_version``. What has been in production is append-only by
triggers, so that not even a hand-typed UPDATE rewrites it.
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

from feilun.errors import ConfigError, CorruptData, FeilunError, StoreFull, Unavailable

BUSY_SECONDS = 10.0
"""How long a writer waits for another process's transaction; those take milliseconds."""

_TURNS_AND_RELEASES = """
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    trigger TEXT NOT NULL,
    cut INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'promoted', 'rejected', 'failed')),
    started INTEGER NOT NULL,
    ended INTEGER,
    owner TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    UNIQUE (model, cut)
) STRICT;
CREATE TABLE steps (
    turn INTEGER NOT NULL REFERENCES turns (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    output TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (turn, name)
) STRICT;
CREATE TABLE examined (
    model TEXT PRIMARY KEY,
    "offset" INTEGER NOT NULL
) STRICT;
CREATE TABLE releases (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('promote', 'rollback')),
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    turn INTEGER,
    "by" TEXT NOT NULL
) STRICT;
CREATE INDEX releases_by_model ON releases (model, sequence);
CREATE UNIQUE INDEX releases_once_a_turn ON releases (model, turn) WHERE turn IS NOT NULL;
CREATE TABLE workers (
    worker TEXT NOT NULL,
    model TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (worker, model)
) STRICT;
CREATE TRIGGER releases_keep_rows BEFORE DELETE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER releases_keep_values BEFORE UPDATE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER turns_keep_rows BEFORE DELETE ON turns
    BEGIN SELECT RAISE(ABORT, 'turns are never deleted'); END;
CREATE TRIGGER turns_end_once BEFORE UPDATE OF state, ended ON turns WHEN OLD.state != 'running'
    BEGIN SELECT RAISE(ABORT, 'a turn that has ended stays as it ended'); END;
"""
_SYNCS = """
CREATE TABLE syncs (
    name TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    refused BLOB NOT NULL
) STRICT;
CREATE TABLE sync_marks (
    name TEXT NOT NULL REFERENCES syncs (name),
    part TEXT NOT NULL,
    mark TEXT NOT NULL,
    PRIMARY KEY (name, part)
) STRICT;
"""
_SKEW = """
CREATE TABLE skew (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    "offset" INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;
"""
_ROLLOUTS = """
CREATE TABLE rollouts (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('off', 'shadow', 'canary', 'full')),
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    percent REAL NOT NULL CHECK (percent BETWEEN 0 AND 100),
    salt TEXT NOT NULL,
    release INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    "by" TEXT NOT NULL
) STRICT;
CREATE INDEX rollouts_by_model ON rollouts (model, sequence);
CREATE TRIGGER rollouts_keep_rows BEFORE DELETE ON rollouts
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;
CREATE TRIGGER rollouts_keep_values BEFORE UPDATE ON rollouts
    BEGIN SELECT RAISE(ABORT, 'the history of rollouts is append-only'); END;
ALTER TABLE workers ADD COLUMN rollout INTEGER NOT NULL DEFAULT 0;
"""
_ADOPTIONS = """
CREATE TABLE releases_with_adoptions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('promote', 'rollback', 'adopt')),
    "offset" INTEGER NOT NULL,
    at INTEGER NOT NULL,
    turn INTEGER,
    "by" TEXT NOT NULL
) STRICT;
INSERT INTO releases_with_adoptions SELECT * FROM releases;
DROP TABLE releases;
ALTER TABLE releases_with_adoptions RENAME TO releases;
CREATE INDEX releases_by_model ON releases (model, sequence);
CREATE UNIQUE INDEX releases_once_a_turn ON releases (model, turn) WHERE turn IS NOT NULL;
CREATE TRIGGER releases_keep_rows BEFORE DELETE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
CREATE TRIGGER releases_keep_values BEFORE UPDATE ON releases
    BEGIN SELECT RAISE(ABORT, 'the history of releases is append-only'); END;
"""
_TEAMS = """
CREATE TABLE teams (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    quota REAL NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
) STRICT;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    team INTEGER NOT NULL REFERENCES teams (number),
    digest BLOB NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER
) STRICT;
CREATE TABLE "usage" (
    day INTEGER NOT NULL,
    team TEXT NOT NULL,
    scope TEXT NOT NULL,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (day, team, scope, model, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    "by" TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX audit_uses ON audit ("by", detail, at) WHERE action = 'use';
CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER keys_keep_rows BEFORE DELETE ON keys
    BEGIN SELECT RAISE(ABORT, 'keys are revoked, never deleted'); END;
CREATE TRIGGER keys_stay_revoked BEFORE UPDATE ON keys WHEN OLD.revoked IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a revoked key stays revoked'); END;
"""
_SCHEMAS = (_TURNS_AND_RELEASES, _SYNCS, _SKEW, _ROLLOUTS, _ADOPTIONS, _TEAMS)
"""What each version of the schema added to the one before."""
SCHEMA_VERSION = len(_SCHEMAS)


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
            for added in _SCHEMAS[version:]:
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
    if primary == sqlite3.SQLITE_FULL:
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
