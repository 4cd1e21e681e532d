"""One process of a kind per data folder, and a way to see which are alive.

A lock is held by an open file, so the operating system gives it back however its holder ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from feilun.errors import Unavailable
from feilun.i18n import _


class ProcessLock:
    """The right to be the only ``name`` on a data folder, for as long as the ``with`` lasts.

    Raises
    ------
    Unavailable
        On entering, if another process holds it; its pid is named.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.lock"
        self._name = name
        self._fd = -1

    def __enter__(self) -> ProcessLock:
        """Take the lock and write down who has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _read(fd)[0]
            os.close(fd)
            raise Unavailable(
                _(
                    "feilun {name} runs already on {folder} (pid {pid}).",
                    name=self._name,
                    folder=self._path.parent.parent,
                    pid=pid,
                ),
                _("Stop it first (kill {pid}), or use another data folder.", pid=pid),
            ) from error
        self._fd = fd
        self._write("starting")
        return self

    def ready(self) -> None:
        """Say that this process does its work now."""
        self._write("ready")

    def check(self) -> None:
        """See that the folder is still where it was. Cheap.

        Raises
        ------
        Unavailable
            If it was taken away, so that what is written now may be lost with it.
        """
        try:
            found = self._path.stat()
        except OSError:
            found = None
        held = os.fstat(self._fd)
        if found is None or (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            raise Unavailable(
                _("{folder} was taken away.", folder=self._path.parent.parent),
                _("Put it back, and start again: feilun up"),
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        os.close(self._fd)

    def _write(self, state: str) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()} {state}\n".encode(), 0)


def holder(folder: Path, name: str) -> tuple[int, str] | None:
    """Return the pid that holds ``name`` and its state, ``starting`` or ``ready``; or None."""
    try:
        fd = os.open(folder / f"{name}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    else:
        return None
    finally:
        os.close(fd)


def _read(fd: int) -> tuple[int, str]:
    """Return pid and state; pid 0 where the holder has not written them yet."""
    pid, _space, state = os.pread(fd, 64, 0).decode().strip().partition(" ")
    return int(pid or 0), state or "starting"
