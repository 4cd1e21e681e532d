"""The exam of a `ReleaseHistory`: subclass `ReleaseHistoryExam` and say how to make one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import pytest

from feilun.errors import Fenced
from feilun.ports.releases import Release, ReleaseHistory
from feilun.ports.turn_store import TurnStore


class Stores(NamedTuple):
    """A history, and the turns whose fences it compares."""

    turns: TurnStore
    releases: ReleaseHistory


class ReleaseHistoryExam(ABC):
    """What every history of releases must do."""

    @abstractmethod
    def make(self, folder: Path) -> Stores:
        """Return empty stores that may keep their files in ``folder``."""

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Stores:
        """Give each test stores of its own."""
        return self.make(tmp_path)

    def test_nothing_is_in_production_at_first(self, stores: Stores) -> None:
        """Not now, not ever before."""
        assert stores.releases.current("ranker") is None
        assert stores.releases.at("ranker", 10**18) is None
        assert stores.releases.entries() == []

    def test_the_newest_entry_is_current(self, stores: Stores) -> None:
        """Each model has its own; a rollback is an entry like any other."""
        first = _promote(stores, version=1, at=10)
        second = _promote(stores, version=2, at=20)
        other = _promote(stores, model="demand", version=1, at=30)
        back = stores.releases.append(
            "ranker", 1, "bundle-1", action="rollback", offset=9, at=40, turn=None, by="ann"
        )
        assert stores.releases.current("ranker") == back
        assert stores.releases.current("demand") == other
        assert stores.releases.entries("ranker") == [first, second, back]
        assert [entry.sequence for entry in stores.releases.entries()] == sorted(
            entry.sequence for entry in stores.releases.entries()
        )
        assert back[1:] == ("ranker", 1, "bundle-1", "rollback", 9, 40, None, "ann")

    def test_what_somebody_else_trained_is_told_apart(self, stores: Stores) -> None:
        """An adoption is no turn's."""
        made = stores.releases.append(
            "ranker", 1, "bundle-1", action="adopt", offset=9, at=40, turn=None, by="ann"
        )
        assert stores.releases.entries("ranker") == [made]
        assert (made.action, made.turn) == ("adopt", None)

    def test_it_knows_what_was_in_production_at_any_time(self, stores: Stores) -> None:
        """From its own moment on, until the next."""
        for version, at in ((1, 10), (2, 20)):
            _promote(stores, version=version, at=at)
        asked = (9, 10, 19, 20, 10**18)
        found = [stores.releases.at("ranker", time) for time in asked]
        assert [entry and entry.version for entry in found] == [None, 1, 1, 2, 2]

    def test_a_clock_that_steps_back_reorders_nothing(self, stores: Stores) -> None:
        """An entry never claims a time before the one that it follows."""
        _promote(stores, version=1, at=100)
        later = _promote(stores, version=2, at=50)
        assert later.at == 100
        assert stores.releases.at("ranker", 60) is None
        assert stores.releases.at("ranker", 100) == later

    def test_a_turn_releases_once(self, stores: Stores) -> None:
        """Its second try returns its first entry, whatever it says."""
        turn = stores.turns.open("ranker", "t", 50, now=0).id
        fence = stores.turns.claim(turn, "one", now=0, lease=10)
        first = _promote(stores, version=1, at=10, turn=turn, fence=fence)
        assert _promote(stores, version=2, at=11, turn=turn, fence=fence) == first
        assert stores.releases.entries() == [first]

    def test_an_overtaken_promoter_is_fenced(self, stores: Stores) -> None:
        """It changes nothing, even when it was there first and the new one has not written."""
        turn = stores.turns.open("ranker", "t", 50, now=0).id
        old = stores.turns.claim(turn, "one", now=0, lease=10)
        new = stores.turns.claim(turn, "two", now=20, lease=10)
        with pytest.raises(Fenced):
            _promote(stores, version=1, at=21, turn=turn, fence=old)
        assert stores.releases.entries() == []
        assert _promote(stores, version=2, at=22, turn=turn, fence=new).version == 2

    def test_workers_say_what_they_serve(self, stores: Stores) -> None:
        """The newest word of each that was heard of after ``since``."""
        stores.releases.acknowledge("w1", "ranker", 1, now=10)
        stores.releases.acknowledge("w2", "ranker", 1, now=10)
        stores.releases.acknowledge("w1", "ranker", 2, now=20)
        stores.releases.acknowledge("w1", "demand", 7, now=20)
        assert stores.releases.serving("ranker", since=9) == {"w1": 2, "w2": 1}
        assert stores.releases.serving("ranker", since=10) == {"w1": 2}
        assert stores.releases.serving("nobody", since=0) == {}


def _promote(
    stores: Stores,
    *,
    version: int,
    at: int,
    model: str = "ranker",
    turn: int | None = None,
    fence: int | None = None,
) -> Release:
    return stores.releases.append(
        model,
        version,
        f"bundle-{version}",
        action="promote",
        offset=5,
        at=at,
        turn=turn,
        by="flywheel",
        fence=fence,
    )
