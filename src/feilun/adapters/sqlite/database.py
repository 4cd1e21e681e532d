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

    Parameters
    ----------
    path : Path
        The file; made, with its folder, where it is missing.

    Raises
    ------
    ConfigError
        If the file cannot be opened, or was written by a newer Feilun.
    CorruptData
        If it is not a database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        with self._errors():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"The folder {self.path.parent} cannot be made: {error.strerror}.",
                    "Choose a data folder that can be written in feilun.toml.",
                ) from error
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
            found = self.path.stat()
            self._place = (found.st_dev, found.st_ino)

    def _prepare(self) -> None:
        execute = self._connection.execute
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
        self._use_wal()
        if version == SCHEMA_VERSION:
            return
        # Two processes may come here at once: the second finds the schema made.
        with self._write_lock():
            version = execute("PRAGMA user_version").fetchone()[0]
            for added in _SCHEMAS[version:]:
                for statement in _statements(added):
                    execute(statement)
            execute(f"PRAGMA user_version = {max(version, SCHEMA_VERSION)}")

    def _use_wal(self) -> None:
        """Switch the file to WAL. SQLite does not wait for this lock by itself, so we do."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def return_to_place(self) -> bool:
        """Open the file that lies at ``path`` now, if it is another one than was opened.

        Returns whether it was another one.

        A file that was moved away or put back from a copy goes on being readable under its old
        connection, and would for ever say what it said then.

        Raises
        ------
        Unavailable
            If there is none.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            raise Unavailable(
                f"{self.path} cannot be found: {error.strerror}.", "Put it back."
            ) from error
        with self._lock:
            moved = (found.st_dev, found.st_ino) != self._place
            if moved:
                self._connection.close()
                self._open()
            return moved

    def read(self, query: str, *values: object) -> list[Any]:
        """Return the rows of one SELECT. Cheap: gateways poll through here."""
        self._stay_in_process()
        try:
            with self._lock:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within one transaction, durable when the block ends.

        The transaction holds the write lock from its start, so that what it reads cannot change
        before it writes: fences are compared here.
        """
        self._stay_in_process()
        with self._lock, self._errors(), self._write_lock():
            yield self._connection

    def _stay_in_process(self) -> None:
        if self._pid != os.getpid():
            self._open()  # a connection must not cross a fork

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Give the connection back; further calls are errors."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error


def _statements(script: str) -> Iterator[str]:
    """Split a script where SQLite itself sees the end of a statement."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


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
