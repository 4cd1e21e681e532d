"""Compiled modules, where they could be built.

Every use of one has a way without: on a machine that has neither a wheel nor a C compiler Python
and NumPy do the same, several times slower. ``FEILUN_COMPILED=0`` leaves all of them out, to test
that way.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def find(name: str) -> ModuleType | None:
    """Return a compiled module of this package; None where there is none to use."""
    if sys.byteorder != "little" or os.environ.get("FEILUN_COMPILED") == "0":
        return None  # they read words where they lie, and those are little-endian
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
