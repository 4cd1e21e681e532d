"""The list of erasures: a file beside ``feilun.toml``, outside the data folder and its backups.

It says of each erasure when it was begun, whose it is (keyed hashes), what it took, which models
had been trained on it, and how it ended. Lines are only added. A data folder that is put
back from a backup is compared with it, so that nobody who was erased comes back unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from feilun.errors import ConfigError, CorruptData
from feilun.i18n import _
from feilun.ports.event_log import EventLog
from feilun.records.erasure import Erasures

FILE = "erasures.jsonl"
FORMAT = "feilun-erasures/1"


class _Line(msgspec.Struct, omit_defaults=True):
    """One line: the head of the file, or the beginning of an erasure, its end, or its failure."""

    format: str = ""
    key: str = ""
    erasure: int = 0
    begun: int | None = None
    subjects: dict[str, int] = {}
    took: dict[str, Any] = {}
    done: int | None = None
    failed: str = ""


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class ErasureList:
    """The file of a project; read when it is made.

    Parameters
    ----------
    root : Path
        The project's folder.

    Raises
    ------
    CorruptData
        If a line of it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / FILE
        self._lines = self._read()

    @property
    def erasures(self) -> Erasures | None:
        """Everybody on the list, but for erasures that failed; None if there is no list yet."""
        if not self._lines:
            return None
        erasures = Erasures(bytes.fromhex(self._lines[0].key))
        failed = {line.erasure for line in self._lines if line.failed}
        for line in [line for line in self._lines[1:] if line.erasure not in failed]:
            erasures = erasures.merged(
                {bytes.fromhex(name): moment for name, moment in line.subjects.items()}
            )
        return erasures

    @property
    def unfinished(self) -> list[int]:
        """The numbers of erasures that were begun, and stopped before their end."""
        ended = {line.erasure for line in self._lines if line.done is not None or line.failed}
        begun = [line.erasure for line in self._lines if line.begun is not None]
        return [number for number in begun if number not in ended]

    def begin(
        self, erasures: Erasures, subjects: Mapping[bytes, int], now: int, **took: Any
    ) -> int:
        """Write down that an erasure begins, durably; return its number."""
        if not self._lines:
            self._add(_Line(format=FORMAT, key=erasures.key.hex()))
        number = 1 + max(line.erasure for line in self._lines)
        named = {name.hex(): moment for name, moment in subjects.items()}
        self._add(_Line(erasure=number, begun=now, subjects=named, took=took))
        return number

    def finish(self, number: int, now: int, **took: Any) -> None:
        """Write down that an erasure is done, and what it took."""
        self._add(_Line(erasure=number, done=now, took=took))

    def fail(self, number: int, reason: str) -> None:
        """Write down that an erasure has changed nothing, and why."""
        self._add(_Line(erasure=number, failed=reason))

    def _read(self) -> list[_Line]:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        # What a crash cut short at the end had not begun.
        complete = raw[: raw.rfind(b"\n") + 1].splitlines()
        try:
            lines = [_decode(line) for line in complete]
            if lines and lines[0].format != FORMAT:
                raise ValueError(f"it is not of format {FORMAT}")
            if lines:
                Erasures(bytes.fromhex(lines[0].key))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            raise CorruptData(
                f"{self.path} cannot be read: {error}.", "Put it back from a copy of it."
            ) from error
        return lines

    def _add(self, line: _Line) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o600)
        try:
            raw = self.path.read_bytes()
            whole = raw.rfind(b"\n") + 1
            os.ftruncate(fd, whole)
            os.pwrite(fd, _encode(line) + b"\n", whole)
            os.fsync(fd)
        finally:
            os.close(fd)
        self._lines.append(line)


def check_erasures(root: Path, log: EventLog) -> None:
    """See that everybody on the project's list is erased from its log.

    Raises
    ------
    ConfigError
        If an erasure was not finished, or the log is from before one: an old copy of it.
    """
    if not (root / FILE).exists():
        return
    listed = ErasureList(root)
    wanted, known = listed.erasures, log.erasures()
    if wanted is None:
        return
    if known is not None and known.key != wanted.key:
        raise ConfigError(
            _("{path} is not the list of erasures of this data folder.", path=listed.path),
            _("Put the list back that belongs to it."),
        )
    if listed.unfinished:
        raise ConfigError(
            _("An erasure was begun and not finished."), _("Finish it: feilun erase --again")
        )
    if wanted.moments and (known is None or known.lacks(wanted.moments)):
        raise ConfigError(
            _(
                "The data folder is from before an erasure that {path} has: it was put back from "
                "an old copy.",
                path=listed.path,
            ),
            _("Erase again who was erased since: feilun erase --again"),
        )
