"""Folders named by their digest, which are never changed: bundles and encoders.

A folder holds a description and other files. Its name is the SHA-256 of the description's bytes,
and the description holds that of the other files: whoever knows the name can tell every flipped
bit.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feilun.disk import sync_folder
from feilun.errors import ConfigError, CorruptData, ModelError, StoreFull

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def is_digest(name: str) -> bool:
    """Say whether a name is one that a folder may have.

    Examples
    --------
    >>> is_digest("0" * 64), is_digest("../../etc")
    (True, False)
    """
    return _DIGEST.fullmatch(name) is not None


@dataclass(frozen=True)
class DigestFolder:
    """What the folders of one kind have in common.

    Attributes
    ----------
    noun : str
        What one of them is called, with its article.
    description : str
        The name of the file that describes it.
    max_description : int
        The most bytes of that file.
    if_missing, if_damaged : str
        What to do where a file is not there, or is not what was written.
    """

    noun: str
    description: str
    max_description: int
    if_missing: str
    if_damaged: str

    def write(self, root: Path, digest: str, files: Mapping[str, bytes]) -> None:
        """Store a folder under ``root``: durably and whole, or not at all.

        Raises
        ------
        StoreFull, ConfigError
            If the disk cannot take it.
        """
        try:
            _write(root, root / digest, files)
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFull(
                    f"No space for {self.noun} under {root}.", "Free some disk."
                ) from error
            raise ConfigError(
                f"Cannot write {self.noun} under {root}: {error.strerror}.",
                "Check the folder's owner and permissions.",
            ) from error

    def read_description(self, root: Path, digest: str) -> bytes:
        """Return the description in the folder of a digest, checked against it.

        Raises
        ------
        ModelError
            If ``digest`` is not 64 hex digits, or there is no such folder.
        CorruptData
            If any byte differs from what was written.
        """
        if not is_digest(digest):
            raise ModelError(
                f"{digest[:80]!r} is not {self.noun}'s digest.", "It is 64 hex digits."
            )
        return self.read(root / digest / self.description, digest, self.max_description)

    def read(self, path: Path, sha256: str, cap: int) -> bytes:
        """Return the bytes of a file, checked against their SHA-256 (hex); at most ``cap``.

        Raises
        ------
        ModelError
            If it cannot be read.
        CorruptData
            If it is longer, or any byte differs from what was written.
        """
        try:
            if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
                raise ModelError(f"{path} is no file.", self.if_damaged)
            with path.open("rb") as file:
                data = file.read(cap + 1)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise ModelError(
                f"{path.name} of {self.noun} cannot be read: {error.strerror} ({path}).",
                self.if_missing if missing else self.if_damaged,
            ) from error
        if len(data) > cap or hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptData(
                f"{path} is not what was written: its digest differs.", self.if_damaged
            )
        return data


def _write(root: Path, target: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` beside ``target``, make them durable, then give the folder its name."""
    root.mkdir(parents=True, exist_ok=True)
    staging = root / f".writing-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        for name, data in files.items():
            with (staging / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(staging)
        try:
            staging.rename(target)
        except OSError as error:
            # Somebody stored the same in the meantime: its name is its content.
            if error.errno not in _THERE:
                raise
        sync_folder(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
