"""The compiled loops over blobs, where they could be built."""

from __future__ import annotations

from feilun.compiled import find

loops = find("feilun.aggregation._loops")
"""`feilun.aggregation._loops`; None without it."""
