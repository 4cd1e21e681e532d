"""The compiled loops over the rows of a batch, where they could be built."""

from __future__ import annotations

from feilun.compiled import find

loops = find("feilun.records._loops")
"""`feilun.records._loops`; None without it."""
