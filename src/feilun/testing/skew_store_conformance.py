"""The exam of every `feilun.ports.skew_store.SkewStore`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feilun.errors import Fenced
from feilun.ports.skew_store import FeatureSkew, ModelSkew, SkewState, SkewStore

SOME = SkewState(
    7, {"ranker": ModelSkew(3, {"unbuilt": 1}, {"user_profile:orders": FeatureSkew(30, 2)})}
)


class SkewStoreExam:
    """Subclass it with ``make``; pytest then runs the exam."""

    def make(self, folder: Path) -> SkewStore:
        """Open the store of ``folder``."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SkewStore]:
        """Open a store for one test."""
        store = self.make(tmp_path)
        yield store
        store.close()

    def test_at_first_nothing_was_looked_at(self, store: SkewStore) -> None:
        """No state is the empty state."""
        assert store.load() == SkewState()

    def test_what_is_saved_is_there(self, store: SkewStore) -> None:
        """The newest state takes the place of the one before."""
        store.save(SOME, 0)
        assert store.load() == SOME
        more = SkewState(9, {"ranker": SOME.models["ranker"].plus(SOME.models["ranker"])})
        store.save(more, 7)
        assert store.load() == more
        assert store.load().models["ranker"].features["user_profile:orders"].rate == 4 / 60

    @pytest.mark.parametrize("expected", [0, 6, 8])
    def test_what_somebody_else_has_saved_stays(self, store: SkewStore, expected: int) -> None:
        """Of two auditors one is told to stop."""
        store.save(SOME, 0)
        with pytest.raises(Fenced):
            store.save(SkewState(9), expected)
        assert store.load() == SOME

    def test_nothing_is_saved_over_a_state_that_is_not_there(self, store: SkewStore) -> None:
        """A database that was put back is not mistaken for the one it was."""
        with pytest.raises(Fenced):
            store.save(SOME, 3)
        assert store.load() == SkewState()
