"""Finds the token of a gateway that runs on this machine, for programs within its project."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

FILE = "feilun.toml"
DATA = ".feilun"
PORT = 8600
TOKEN = Path("run", "token")
"""Where the token lies in a data folder."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READ_BYTES = 100


def find_project(start: Path) -> Path | None:
    """Return the nearest folder with a ``feilun.toml``, from ``start`` upwards."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    return None


def local_token(host: str, port: int, start: Path) -> str:
    """Return the token for the gateway at ``host`` and ``port``; empty if it is not this project's.

    The project is the one that ``start`` lies in. Its token goes to its own gateway alone: what
    else listens on this machine must not get it. A file that others may read is not used.

    Parameters
    ----------
    host, port : str, int
        Where the program wants to send.
    start : Path
        The folder that the program works in.
    """
    root = find_project(start)
    if host not in LOOPBACK or root is None:
        return ""
    try:
        platform = tomllib.loads((root / FILE).read_text(encoding="utf-8")).get("platform", {})
        if platform.get("port", PORT) != port:
            return ""
        path = root / platform.get("data", DATA) / TOKEN
        with path.open(encoding="ascii", errors="replace") as file:
            return "" if is_shared(file.fileno()) else file.read(_READ_BYTES).strip()
    except (OSError, ValueError, AttributeError, TypeError):
        return ""  # then the gateway says that a key is needed


def is_shared(file: int) -> bool:
    """Say whether somebody else may read an open file or has made it."""
    found = os.fstat(file)
    return bool(found.st_mode & 0o077) or found.st_uid not in (os.geteuid(), 0)
