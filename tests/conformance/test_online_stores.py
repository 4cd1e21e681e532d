"""Every online store takes the same exam."""

from __future__ import annotations

from pathlib import Path

from feilun.adapters.lmdb import LmdbOnlineStore
from feilun.ports.online_store import OnlineStore
from feilun.testing.fakes import MemoryStore
from feilun.testing.online_store_conformance import OnlineStoreConformance


class TestMemoryStore(OnlineStoreConformance):
    reopens = False

    def open(self, folder: Path) -> OnlineStore:
        return MemoryStore()


class TestLmdbOnlineStore(OnlineStoreConformance):
    def open(self, folder: Path) -> OnlineStore:
        return LmdbOnlineStore(folder)
