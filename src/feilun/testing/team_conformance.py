"""The exam of a `TeamStore`: subclass `TeamStoreExam`, say how to make one, and run pytest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from feilun.errors import Conflict, UnknownName
from feilun.ports.teams import Directory, KeyUse, NewKey, Team, TeamStore, Usage

FIRST = NewKey("aa11", b"1" * 32)
SECOND = NewKey("bb22", b"2" * 32, expires=900)
THIRD = NewKey("cc33", b"3" * 32)


class TeamStoreExam(ABC):
    """What every store of teams must do."""

    @abstractmethod
    def make(self, folder: Path) -> TeamStore:
        """Open the store of ``folder``."""

    @pytest.fixture
    def teams(self, tmp_path: Path) -> Iterator[TeamStore]:
        """Give each test a store of its own."""
        store = self.make(tmp_path)
        yield store
        store.close()

    def test_at_first_nobody_is_known(self, teams: TeamStore) -> None:
        """Neither teams nor keys, and nothing was done."""
        assert teams.load() == Directory()
        assert teams.usage() == []
        assert teams.audit(10) == []

    def test_a_team_has_its_scopes_its_quota_and_a_key(self, teams: TeamStore) -> None:
        """What is added is there, by name; numbers differ."""
        growth = _add(teams, "growth", FIRST)
        ads = _add(teams, "ads", SECOND, at=2)
        found = teams.load()
        assert found.teams == (ads, growth)
        assert growth[1:] == ("growth", ("recommend", "events"), 2.5, 1, None)
        assert ads.number != growth.number
        assert [key[:5] for key in found.keys] == [
            ("aa11", "growth", b"1" * 32, 1, None),
            ("bb22", "ads", b"2" * 32, 2, 900),
        ]

    def test_a_team_is_added_once(self, teams: TeamStore) -> None:
        """The second one is refused, and its key is not kept."""
        _add(teams, "growth", FIRST)
        before = teams.load(), teams.audit(10)
        with pytest.raises(Conflict):
            _add(teams, "growth", SECOND)
        assert (teams.load(), teams.audit(10)) == before

    def test_scopes_and_quota_change_each_for_itself(self, teams: TeamStore) -> None:
        """Keys stay as they are."""
        team = _add(teams, "growth", FIRST)
        keys = teams.load().keys
        assert teams.change("growth", ["events"], None, at=2, by="ann") == team._replace(
            scopes=("events",)
        )
        changed = teams.change("growth", None, 9.0, at=3, by="ann")
        assert changed == team._replace(scopes=("events",), quota=9.0)
        assert teams.load() == Directory((changed,), keys)

    def test_a_rotation_ends_the_old_keys_when_it_says(self, teams: TeamStore) -> None:
        """One that would have ended before still does; a later one makes no key live longer."""
        _add(teams, "growth", FIRST)
        teams.rotate("growth", SECOND, until=500, at=2, by="ann")
        teams.rotate("growth", THIRD, until=700, at=3, by="ann")
        assert [(k.id, k.expires, k.revoked) for k in teams.load().keys] == [
            ("aa11", 500, None),
            ("bb22", 700, None),
            ("cc33", None, None),
        ]

    def test_a_rotation_may_end_them_at_once(self, teams: TeamStore) -> None:
        """They are revoked, whatever the time is."""
        _add(teams, "growth", FIRST)
        _add(teams, "ads", THIRD)
        teams.rotate("growth", SECOND, until=None, at=2, by="ann")
        revoked = {key.id: key.revoked for key in teams.load().keys}
        assert revoked == {"aa11": 2, "bb22": None, "cc33": None}

    def test_a_revoked_team_has_no_key_left(self, teams: TeamStore) -> None:
        """Once is enough, and others are not touched."""
        team = _add(teams, "growth", FIRST)
        teams.rotate("growth", SECOND, until=500, at=2, by="ann")
        other = _add(teams, "ads", THIRD)
        gone = teams.revoke("growth", at=3, by="ann")
        assert gone == team._replace(revoked=3)
        audited = teams.audit(10)
        assert teams.revoke("growth", at=4, by="ann") == gone
        assert teams.audit(10) == audited
        assert teams.load().teams == (other, gone)
        assert {k.id: k.revoked for k in teams.load().keys} == {"aa11": 3, "bb22": 3, "cc33": None}
        with pytest.raises(UnknownName):
            teams.change("growth", None, 1.0, at=5, by="ann")
        with pytest.raises(UnknownName):
            teams.rotate("growth", THIRD, until=None, at=5, by="ann")

    def test_a_revoked_team_may_come_back(self, teams: TeamStore) -> None:
        """With its number and another key; the old one stays revoked."""
        team = _add(teams, "growth", FIRST)
        teams.revoke("growth", at=2, by="ann")
        back = teams.add("growth", ["events"], 1.0, SECOND, at=3, by="ann")
        assert back == team._replace(scopes=("events",), quota=1.0)
        assert {k.id: k.revoked for k in teams.load().keys} == {"aa11": 2, "bb22": None}

    def test_who_is_not_there_is_unknown(self, teams: TeamStore) -> None:
        """Every act says so, and is not audited."""
        with pytest.raises(UnknownName):
            teams.change("nobody", None, 1.0, at=1, by="ann")
        with pytest.raises(UnknownName):
            teams.rotate("nobody", FIRST, until=None, at=1, by="ann")
        with pytest.raises(UnknownName):
            teams.revoke("nobody", at=1, by="ann")
        assert teams.load() == Directory()
        assert teams.audit(10) == []

    def test_every_act_is_audited_and_no_digest_shows(self, teams: TeamStore) -> None:
        """Who did what to whom, in its order."""
        _add(teams, "growth", FIRST)
        teams.change("growth", None, 9.0, at=2, by="bob")
        teams.rotate("growth", SECOND, until=None, at=3, by="ann")
        teams.revoke("growth", at=4, by="bob")
        found = teams.audit(10)
        assert [entry[1:5] for entry in found] == [
            (1, "ann", "team add", "growth"),
            (2, "bob", "team change", "growth"),
            (3, "ann", "team rotate", "growth"),
            (4, "bob", "team revoke", "growth"),
        ]
        assert "aa11" in found[0].detail
        assert "9/s" in found[1].detail
        assert [entry.number for entry in found] == sorted(entry.number for entry in found)
        assert teams.audit(2) == found[-2:]

    def test_usage_adds_up(self, teams: TeamStore) -> None:
        """By day, team, scope, model and version."""
        some = Usage(20_000, "growth", "recommend", "ranker", 3, 5)
        other = some._replace(version=4, requests=1)
        views = Usage(19_999, "growth", "user_profile", "", 0, 2)
        teams.record([some, views], [])
        teams.record([some, other], [])
        teams.record([], [])
        assert teams.usage() == [views, some._replace(requests=10), other]
        assert teams.usage(20_000) == [some._replace(requests=10), other]

    def test_a_use_is_audited_once_a_minute(self, teams: TeamStore) -> None:
        """By key and route, whichever worker tells of it; the numbers have no gap."""
        use = KeyUse(60, "aa11", "growth", "/api/recommend")
        teams.record([], [use, use._replace(route="/api/events")])
        teams.record([], [use, use._replace(minute=120)])
        assert [entry[1:] for entry in teams.audit(10)] == [
            (60, "aa11", "use", "growth", "/api/recommend"),
            (60, "aa11", "use", "growth", "/api/events"),
            (120, "aa11", "use", "growth", "/api/recommend"),
        ]
        first, *_, last = (entry.number for entry in teams.audit(10))
        assert last - first == 2

    def test_what_is_noted_is_audited_each_time(self, teams: TeamStore) -> None:
        """In the order of the acts, whatever their times."""
        teams.note("erase", "erasure 1", "3 records", at=9, by="ann")
        teams.note("erase", "erasure 1", "3 records", at=9, by="ann")
        _add(teams, "growth", FIRST, at=1)
        assert [entry[1:4] for entry in teams.audit(10)] == [
            (9, "ann", "erase"),
            (9, "ann", "erase"),
            (1, "ann", "team add"),
        ]


def _add(teams: TeamStore, name: str, key: NewKey, at: int = 1) -> Team:
    return teams.add(name, ["recommend", "events"], 2.5, key, at=at, by="ann")
