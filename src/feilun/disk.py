"""What the disk has for certain."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Return when the disk has the names in a folder: a new or renamed file is then found again.

    The bytes of a file are synchronised apart, and before.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
