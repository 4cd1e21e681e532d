"""The embedded event log and online store, each in an LMDB environment of its own."""

from feilun.adapters.lmdb.event_log import LmdbEventLog
from feilun.adapters.lmdb.online_store import LmdbOnlineStore

__all__ = ["LmdbEventLog", "LmdbOnlineStore"]
