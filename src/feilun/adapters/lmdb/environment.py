"""One LMDB environment: its format, its quota, and LMDB's errors in Feilun's words.

A commit returns after the disk has it; only what is derived may lose its last commit to a power
loss, and stays whole even then (LMDB's MDB_NOMETASYNC).
Several processes may open one folder; within a process one object must be shared.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from feilun.disk import sync_folder
from feilun.errors import (
    ConfigError,
    CorruptData,
    FeilunError,
    StoreFull,
    StoreStopped,
    Unavailable,
)

MAP_BYTES = 1 << 40
"""Address space, not disk: fixed, for a map that one process enlarges breaks the others."""

_MAX_READERS = 1024
_SPARE_TRANSACTIONS = 16
_WRITES_PER_READER_CHECK = 64
_LAG = 128
"""Transactions after which an open reader has stopped: none is meant to last a second."""
_SPARE_BYTES = 64 << 20
_TRANSACTION_BYTES = 64 << 20
"""More than a transaction of the log adds. One of tiles that adds more may be the last."""
_FULL_DISK_BYTES = 1 << 20
_IN_USE = "in-use"
_NEW = "new"
_DATA = "data.mdb"
_PART_BYTES = 16 << 20
_ENTRY_BYTES = 100
_META = b"meta"
_FORMAT = b"format"

_process = os.getpid()
"""This process, without asking the system for it at every read."""


def _note_fork() -> None:
    global _process  # noqa: PLW0603  (it follows the process, and so does every environment)
    _process = os.getpid()


os.register_at_fork(after_in_child=_note_fork)


class Environment:
    """An LMDB folder of one kind and format.

    Parameters
    ----------
    path : Path
        Its folder, made if absent.
    kind : str
        What it holds, such as ``feilun-log``; a folder that holds another kind is refused.
    version : int
        The newest format that this code reads, and the one it writes.
    databases : tuple of str
        The named databases beside ``meta``.
    quota_bytes : int
        How many bytes of live pages it may hold.
    derived : bool
        What it holds can be made again. A power loss may then undo the last commit, whole; each
        commit waits for the disk once instead of twice. A folder of an older format is emptied.
    alone : bool
        No other process may have it open meanwhile.

    Raises
    ------
    ConfigError
        If the folder cannot be opened, or is of another kind or a newer format.
    Unavailable
        If another process has it for itself, or has it open where it is wanted ``alone``.
    """

    def __init__(
        self,
        path: Path,
        *,
        kind: str,
        version: int,
        databases: tuple[str, ...],
        quota_bytes: int,
        derived: bool = False,
        alone: bool = False,
    ) -> None:
        self._share = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        self.path = Path(path)
        self._kind, self._version, self._quota, self._derived = kind, version, quota_bytes, derived
        self._names = [name.encode() for name in databases]
        self._pid = _process
        self._stopped = ""
        self._writes = 0
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._in_use = os.open(self.path / _IN_USE, flags, 0o600)
        except OSError as error:
            raise self._cannot_open(error) from error
        try:
            self._hold(self._share)
            self._open()
        except BaseException:
            os.close(self._in_use)
            raise

    def _open(self) -> None:
        databases = [name.decode() for name in self._names]
        try:
            self._env = lmdb.open(
                str(self.path),
                map_size=MAP_BYTES,
                max_dbs=len(databases) + 1,
                max_readers=_MAX_READERS,
                max_spare_txns=_SPARE_TRANSACTIONS,
                metasync=not self._derived,
            )
        except (OSError, lmdb.Error) as error:
            raise self._cannot_open(error) from error
        try:
            self.reader_check()
            with self._translated(), self._env.begin(write=True) as txn:
                self.meta = self._env.open_db(_META, txn)
                self._check_format(txn, self._kind, self._version)
                self.databases = {name: self._env.open_db(name.encode(), txn) for name in databases}
            self._page = self._env.stat()["psize"]
            self._place = self._find()
        except FeilunError:
            self._env.close()
            raise

    def _cannot_open(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path} cannot be opened: {error}.",
            "Check that the folder is on a local disk, can be written by this user, and is "
            "opened once in this process.",
        )

    def _hold(self, how: int) -> None:
        """Share the folder with other processes, or have it alone."""
        try:
            fcntl.flock(self._in_use, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"{self.path} is in use by another process.",
                "An erasure needs the folder for itself: stop the platform before it, and start it "
                "when it is done.",
            ) from error

    @contextmanager
    def replaced(self) -> Iterator[Environment]:
        """Give an empty environment, which takes this one's place when the block ends.

        LMDB clears no byte that it deletes, not even when it copies its pages to compact them. So
        what may stay is written to a new file, which takes the old one's name in one step: a crash
        leaves the old or the new one, whole. After it ``meta`` and ``databases`` are new handles.

        Raises
        ------
        Unavailable
            If another process has the folder open.
        """
        self._check_process()
        try:
            self._hold(fcntl.LOCK_EX)
            folder = self.path / _NEW
            shutil.rmtree(folder, ignore_errors=True)  # of a call that was stopped
            fresh = Environment(
                folder,
                kind=self._kind,
                version=self._version,
                databases=tuple(name.decode() for name in self._names),
                quota_bytes=self._quota,
                derived=True,
            )
            try:
                yield fresh
                with fresh._translated():
                    fresh._env.sync(True)
            except BaseException:
                shutil.rmtree(folder)
                raise
            finally:
                fresh.close()
            self._env.close()
            (folder / _DATA).replace(self.path / _DATA)
            sync_folder(self.path)
            shutil.rmtree(folder)
            self._open()
        finally:
            self._hold(self._share)

    def copy(
        self,
        into: Environment,
        database: str,
        change: Callable[[bytes, bytes], bytes | None],
    ) -> None:
        """Copy a database, each value as ``change`` of its key and value gives it; None: not."""
        for part in self.parts(database):
            kept = [(key, new) for key, raw in part if (new := change(key, raw)) is not None]
            with into.write() as txn, txn.cursor(into.databases[database]) as cursor:
                cursor.putmulti(kept, append=True)

    def parts(self, database: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """Return all keys and values of a database in order, some megabytes at a time."""
        after: bytes | None = b""
        while after is not None:  # a moment for each part: a long one would pin pages
            part: list[tuple[bytes, bytes]] = []
            size = 0
            with self.read() as txn, txn.cursor(self.databases[database]) as cursor:
                more = cursor.set_range(after) if after else cursor.first()
                while more and size < _PART_BYTES:
                    key, value = cursor.item()
                    part.append((key, value))
                    size += len(key) + len(value) + _ENTRY_BYTES
                    more = cursor.next()
                after = cursor.key() if more else None
            yield part

    def _check_format(self, txn: lmdb.Transaction[bytes], kind: str, version: int) -> None:
        raw = txn.get(_FORMAT, db=self.meta)
        if raw is None and txn.stat()["entries"] <= 1:  # only the meta database just made
            txn.put(_FORMAT, f"{kind}/{version}".encode(), db=self.meta)
            return
        found, _, number = bytes(raw or b"").decode("utf-8", "replace").partition("/")
        if found != kind or not number.isdigit():
            raise ConfigError(
                f"{self.path} does not hold a {kind} (its format entry is {raw!r}).",
                "Name another folder, or move this one away.",
            )
        if int(number) < version and self._derived:
            for name in self._names:
                txn.drop(self._env.open_db(name, txn), delete=False)
            txn.drop(self.meta, delete=False)
            txn.put(_FORMAT, f"{kind}/{version}".encode(), db=self.meta)
            return
        if int(number) > version:
            raise ConfigError(
                f"{self.path} is of {kind} format {number}; this version of Feilun reads formats "
                f"up to {version}.",
                "Use the version that wrote it, or a newer one.",
            )

    def begin(self, database: lmdb._Database) -> lmdb.Transaction[bytes]:
        """Open a moment for reading a database; whoever asked for it ends it, soon."""
        if _process != self._pid:
            self._check_process()
        try:
            return self._env.begin(database)
        except lmdb.Error as error:
            raise self.translate(error) from error

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Open a moment for reading; hold it briefly, for space cannot be reused meanwhile."""
        self._check_process()
        with self._translated(), self._env.begin() as txn:
            yield txn

    def get(self, key: bytes, database: lmdb._Database) -> bytes | None:
        """Return one value as it is now: for the paths of requests, in a third of `read`'s time."""
        self._check_process()
        try:
            with self._env.begin() as txn:
                return txn.get(key, db=database)
        except lmdb.Error as error:
            raise self.translate(error) from error

    @contextmanager
    def write(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Open the one writing transaction; it is durable when the block ends without an error.

        Raises
        ------
        StoreFull
            If the quota, the map or the disk does not hold it; nothing was stored.
        StoreStopped
            If the disk failed: what is on it is not known, so writing stops until a restart. Or if
            the folder was taken away, or replaced.
        """
        self._check_process()
        if self._stopped:
            raise StoreStopped(self._stopped, "Check the disk, then restart this process.")
        if self._find() != self._place:
            # The old file goes on taking writes, and nobody would ever find them again.
            raise StoreStopped(
                f"{self.path} was taken away, or another was put in its place.",
                "Put it back. If the other one is to stay, stop the platform and start it again.",
            )
        self._writes += 1
        if self._writes % _WRITES_PER_READER_CHECK == 0:
            self.reader_check()
            self._check_growth()
        with self._translated(), self._env.begin(write=True) as txn:
            file = (self._env.info()["last_pgno"] + 1) * self._page
            if file + _TRANSACTION_BYTES < self._quota:
                # Far from it. To count pages asks each database, and whoever asks LMDB has to
                # wait for the other threads of the process each time.
                yield txn
                return
            before = self.used(txn)
            yield txn
            if before < self.used(txn) > self._quota:
                raise self._full(f"its quota of {self._quota} bytes is used up")

    def _find(self) -> tuple[int, int] | None:
        """Return which file lies in the folder now; None if none does."""
        try:
            found = (self.path / _DATA).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def used(self, txn: lmdb.Transaction[bytes]) -> int:
        """Return the bytes of all live pages; pages freed for reuse do not count."""
        return sum(self.bytes_of(txn, database) for database in self.databases.values())

    def bytes_of(self, txn: lmdb.Transaction[bytes], database: lmdb._Database) -> int:
        """Return the bytes of one database's live pages."""
        stat = txn.stat(database)
        return (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * self._page

    def reader_check(self) -> None:
        """Forget readers whose process died: they would pin old pages for ever."""
        with self._translated():
            self._env.reader_check()

    def _check_growth(self) -> None:
        """Refuse to write while a reader that has stopped makes the file grow without end.

        What it still sees cannot be used again. Its process is alive, so nobody may forget it.
        """
        info = self._env.info()
        if (info["last_pgno"] + 1) * self._page <= 2 * self._quota + _SPARE_BYTES:
            return
        rows = [line.split() for line in self._env.readers().splitlines()[1:]]
        seen = {int(row[0]): int(row[2]) for row in rows if len(row) == 3 and row[2].isdigit()}
        stopped = [pid for pid, txn in seen.items() if info["last_txnid"] - txn > _LAG]
        if stopped:
            raise self._full(
                f"its file has grown to twice its quota for a reader that has stopped (process "
                f"{', '.join(map(str, stopped))}); end that process"
            )

    def close(self) -> None:
        """Close the environment, but not in a forked child: its parent still uses it."""
        if _process == self._pid:
            self._env.close()
            if self._in_use >= 0:
                os.close(self._in_use)
                self._in_use = -1

    def _check_process(self) -> None:
        if _process != self._pid:
            raise ConfigError(
                f"{self.path} was opened by process {self._pid} and is used in its fork "
                f"{_process}.",
                "Open it after the worker has started; start workers by spawn, not fork.",
            )

    def _full(self, why: str) -> StoreFull:
        return StoreFull(
            f"{self.path} took nothing: {why}.",
            "Free space on the disk or raise the quota; reading goes on meanwhile.",
        )

    def translate(self, error: lmdb.Error) -> FeilunError:
        """Return LMDB's error in Feilun's words."""
        if isinstance(error, lmdb.MapFullError):
            return self._full(f"its map of {MAP_BYTES} bytes is used up")
        if isinstance(error, lmdb.DiskError):
            return self._full("the disk is full")
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
            return CorruptData(
                f"{self.path} has a damaged page: {error}.", "Restore it from a backup."
            )
        failed = os.strerror(errno.EIO) in str(error)
        if failed and self._disk_is_full():
            return self._full("the disk is full")
        # After a failed write to the disk the page cache may differ from it, and a second try
        # can succeed without the bytes being there.
        if failed or isinstance(error, lmdb.PanicError):
            self._stopped = f"{self.path} stopped taking writes after the disk failed: {error}."
        return Unavailable(
            f"{self.path} failed: {error}.", "Try again; if that does not help, restart."
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise self.translate(error) from error

    def _disk_is_full(self) -> bool:
        # LMDB reports a write that was cut short by a full disk as an input/output error.
        return shutil.disk_usage(self.path).free < _FULL_DISK_BYTES
