"""The exam of a `ReleaseHistory`: subclass `ReleaseHistoryExam` and say how to make one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from feilun.errors import Conflict, Fenced
from feilun.ports.releases import Release, ReleaseHistory, Rollout, Stage, going_on
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

    def test_who_knows_of_no_newer_release_overrules_none(self, stores: Stores) -> None:
        """A release after another than the newest is refused; other models do not matter."""
        after: dict[str, Any] = {
            "action": "adopt",
            "offset": 9,
            "at": 40,
            "turn": None,
            "by": "ann",
        }
        _promote(stores, model="demand", version=1, at=10)
        first = stores.releases.append("ranker", 1, "bundle-1", after=0, **after)
        with pytest.raises(Conflict):
            stores.releases.append("ranker", 2, "bundle-2", after=0, **after)
        assert stores.releases.entries("ranker") == [first]
        second = stores.releases.append("ranker", 2, "bundle-2", after=first.sequence, **after)
        assert stores.releases.current("ranker") == second

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

    def test_the_newest_entry_of_a_rollout_counts(self, stores: Stores) -> None:
        """Each model has its own; every entry is kept as it was said."""
        assert stores.releases.rollout("ranker") is None
        assert stores.releases.rollouts() == []
        shadow = _roll_out(stores, "shadow", 0, at=10)
        canary = _roll_out(stores, "canary", 2.5, at=20)
        other = _roll_out(stores, "full", 100, at=30, model="demand")
        assert stores.releases.rollout("ranker") == canary
        assert stores.releases.rollout("demand") == other
        assert stores.releases.rollouts("ranker") == [shadow, canary]
        assert stores.releases.rollouts() == [shadow, canary, other]
        assert canary[1:] == (
            "ranker", "canary", 2, "bundle-2", 2.5, "salt", 0, 5, 20, "ann"
        )  # fmt: skip

    def test_a_release_ends_the_rollout_beside_it(self, stores: Stores) -> None:
        """And one that was begun beside an older release cannot go on."""
        first = _promote(stores, version=1, at=10)
        begun = _roll_out(stores, "shadow", 0, at=11, release=first.sequence)
        assert going_on(begun, stores.releases.current("ranker")) == begun
        later = _promote(stores, version=3, at=12)
        assert going_on(stores.releases.rollout("ranker"), later) is None
        with pytest.raises(Conflict):
            _roll_out(stores, "canary", 5, at=13, release=first.sequence)
        assert stores.releases.rollouts() == [begun]
        assert _roll_out(stores, "canary", 5, at=14, release=later.sequence).percent == 5

    def test_a_rollout_that_is_off_does_not_go_on(self, stores: Stores) -> None:
        """Nothing was in production: it was begun beside release 0."""
        assert going_on(_roll_out(stores, "full", 100, at=10), None) is not None
        assert going_on(_roll_out(stores, "off", 0, at=11), None) is None

    def test_who_does_not_know_that_it_was_stopped_cannot_go_on(self, stores: Stores) -> None:
        """Of two that write at once the second is refused: no ramp overrules a kill switch."""
        begun = _roll_out(stores, "canary", 5, at=10)
        stopped = _roll_out(stores, "off", 0, at=11, after=begun.sequence)
        with pytest.raises(Conflict):
            _roll_out(stores, "canary", 25, at=12, after=begun.sequence)
        assert stores.releases.rollout("ranker") == stopped

    def test_a_clock_that_steps_back_reorders_no_rollout(self, stores: Stores) -> None:
        """An entry never claims a time before the one that it follows."""
        _roll_out(stores, "shadow", 0, at=100)
        assert _roll_out(stores, "off", 0, at=50).at == 100

    def test_workers_say_which_rollout_they_act_on(self, stores: Stores) -> None:
        """Beside what they serve."""
        stores.releases.acknowledge("w1", "ranker", 1, now=10, rollout=3)
        stores.releases.acknowledge("w2", "ranker", 1, now=10)
        stores.releases.acknowledge("w1", "ranker", 2, now=20, rollout=4)
        assert stores.releases.following("ranker", since=9) == {"w1": 4, "w2": 0}
        assert stores.releases.following("ranker", since=10) == {"w1": 4}
        assert stores.releases.serving("ranker", since=9) == {"w1": 2, "w2": 1}


def _roll_out(
    stores: Stores,
    stage: Stage,
    percent: float,
    *,
    at: int,
    model: str = "ranker",
    release: int = 0,
    after: int | None = None,
) -> Rollout:
    known = stores.releases.rollout(model)
    return stores.releases.append_rollout(
        model,
        stage,
        2,
        "bundle-2",
        percent=percent,
        salt="salt",
        release=release,
        after=after if after is not None else known.sequence if known else 0,
        offset=5,
        at=at,
        by="ann",
    )


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
