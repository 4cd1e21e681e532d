"""Turns, releases, synchronisations, skew and teams in one SQLite file, ``platform.db``."""

from feilun.adapters.sqlite.database import Database
from feilun.adapters.sqlite.known_log import SqliteKnownLog
from feilun.adapters.sqlite.releases import SqliteReleases
from feilun.adapters.sqlite.skew import SqliteSkew
from feilun.adapters.sqlite.syncs import SqliteSyncs
from feilun.adapters.sqlite.teams import SqliteTeams
from feilun.adapters.sqlite.turns import SqliteTurns

__all__ = [
    "Database",
    "SqliteKnownLog",
    "SqliteReleases",
    "SqliteSkew",
    "SqliteSyncs",
    "SqliteTeams",
    "SqliteTurns",
]
