"""The exam of a `SyncStore`: subclass `SyncStoreExam`, say how to make one, and run pytest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from feilun.ports.sync_store import REFUSED_LIMIT, SyncStatus, SyncStore

RUNNING = SyncStatus(started=5, origin="here")
DONE = SyncStatus("done", 5, 6, 10, 4, 3, 1, 1, 1, 99, 0, "", "here", 7)


class SyncStoreExam(ABC):
    """What every store of synchronisations must do."""

    @abstractmethod
    def make(self, folder: Path) -> SyncStore:
        """Return an empty store that may keep its files in ``folder``."""

    @pytest.fixture
    def syncs(self, tmp_path: Path) -> SyncStore:
        """Give each test a store of its own."""
        return self.make(tmp_path)

    def test_nothing_is_known_at_first(self, syncs: SyncStore) -> None:
        """Neither of a table nor of any."""
        assert syncs.load("stock") is None
        assert syncs.statuses() == {}
        syncs.forget("stock", refused=True)
        assert syncs.load("stock") is None

    def test_what_is_saved_is_what_is_loaded(self, syncs: SyncStore) -> None:
        """The newest status; tables do not mix."""
        syncs.save("stock", RUNNING, {"a": "1"}, [b"refused1"])
        syncs.save("price", RUNNING)
        syncs.save("stock", DONE)
        assert syncs.load("stock") == (DONE, {"a": "1"}, [b"refused1"])
        loaded = syncs.load("price")
        assert loaded is not None
        assert (loaded.status, dict(loaded.marks), list(loaded.refused)) == (RUNNING, {}, [])
        assert syncs.statuses() == {"price": RUNNING, "stock": DONE}

    def test_marks_are_kept_by_part_and_forgotten_together(self, syncs: SyncStore) -> None:
        """A part's newer mark replaces its older one, and no other's."""
        syncs.save("stock", RUNNING, {"文件 a": "1", "b": "1"}, [b"refused1"])
        syncs.save("stock", RUNNING, {"文件 a": "2"})
        syncs.save("stock", RUNNING, {"文件 a": "2"})
        syncs.save("price", RUNNING, {"b": "7"})
        assert syncs.load("stock") == (RUNNING, {"文件 a": "2", "b": "1"}, [b"refused1"])
        syncs.forget("stock")
        assert syncs.load("stock") == (RUNNING, {}, [b"refused1"])
        syncs.forget("stock", refused=True)
        assert syncs.load("stock") == (RUNNING, {}, [])
        assert syncs.load("price") == (RUNNING, {"b": "7"}, [])

    def test_refused_rows_are_remembered_once_and_the_newest_longest(
        self, syncs: SyncStore
    ) -> None:
        """There is an end to what a store holds."""
        digests = [n.to_bytes(8, "big") for n in range(REFUSED_LIMIT + 5)]
        syncs.save("stock", RUNNING, None, digests[:10])
        syncs.save("stock", RUNNING, None, digests[:10])
        loaded = syncs.load("stock")
        assert loaded is not None
        assert loaded.refused == digests[:10]
        syncs.save("stock", RUNNING, None, digests)
        loaded = syncs.load("stock")
        assert loaded is not None
        assert loaded.refused == digests[-REFUSED_LIMIT:]
