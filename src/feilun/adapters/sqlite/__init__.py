"""Turns and releases in one SQLite file, ``platform.db``."""

from feilun.adapters.sqlite.releases import SqliteReleases
from feilun.adapters.sqlite.turns import SqliteTurns

__all__ = ["SqliteReleases", "SqliteTurns"]
