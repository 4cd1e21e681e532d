"""The compiled loops, where they could be built.

Every use of them has a way without: on a machine that has neither a wheel nor a C compiler NumPy
does the same, several times slower. ``FEILUN_COMPILED=0`` leaves them out, to test that way.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType


def _find() -> ModuleType | None:
    if sys.byteorder != "little" or os.environ.get("FEILUN_COMPILED") == "0":
        return None  # the loops read words where they lie, and those are little-endian
    try:
        from feilun.aggregation import _loops
    except ImportError:
        return None
    return _loops


loops = _find()
"""`feilun.aggregation._loops`; None without it."""
