"""The shared library that a Python package brings, opened without importing the package."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

from feilun.errors import MissingExtra, ModelError


def open_library(package: str, stem: str, *, name: str, extra: str) -> ctypes.CDLL:
    """Open ``<package>/lib/<stem>.so``, on macOS ``.dylib``.

    Parameters
    ----------
    package, stem : str
        Where it is, and how its file is called without the ending.
    name : str
        How people call it.
    extra : str
        The extra of Feilun that installs it.

    Raises
    ------
    MissingExtra
        If the package is not installed, or has no such library.
    ModelError
        If the library cannot be loaded here.
    """
    path = _path(package, f"{stem}.dylib" if sys.platform == "darwin" else f"{stem}.so")
    if path is None:
        raise MissingExtra(name, extra)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ModelError(
            f"{name}'s library cannot be loaded: {error}",
            "Install OpenMP (Debian: libgomp1, macOS: brew install libomp).",
        ) from error


def _path(package: str, file: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    paths = (Path(folder) / "lib" / file for folder in folders)
    return next((path for path in paths if path.is_file()), None)
