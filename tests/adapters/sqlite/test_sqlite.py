"""SQLite passes the exams, and what only a file shared by processes can do wrong."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from feilun.adapters.sqlite import (
    SqliteKnownLog,
    SqliteReleases,
    SqliteSkew,
    SqliteSyncs,
    SqliteTeams,
    SqliteTurns,
)
from feilun.adapters.sqlite.schema import SCHEMAS
from feilun.errors import ConfigError, CorruptData, FeilunError
from feilun.ports.sync_store import SyncStatus
from feilun.ports.teams import NewKey
from feilun.ports.turn_store import Step
from feilun.testing.platform_fakes import InMemoryReleases, InMemorySkew, InMemoryTurns
from feilun.testing.release_conformance import ReleaseHistoryExam, Stores
from feilun.testing.skew_store_conformance import SkewStoreExam
from feilun.testing.sync_store_conformance import SyncStoreExam
from feilun.testing.table_fakes import InMemorySyncs
from feilun.testing.team_conformance import TeamStoreExam
from feilun.testing.team_fakes import InMemoryTeams
from feilun.testing.turn_conformance import TurnStoreExam


class TestSqliteTurns(TurnStoreExam):
    @pytest.fixture
    def turns(self, tmp_path):
        store = self.make(tmp_path)
        yield store
        store.close()

    def make(self, folder):
        return SqliteTurns(folder / "platform.db")


class TestInMemoryTurns(TurnStoreExam):
    def make(self, folder):
        return InMemoryTurns()


class TestSqliteReleases(ReleaseHistoryExam):
    @pytest.fixture
    def stores(self, tmp_path):
        stores = self.make(tmp_path)
        yield stores
        stores.turns.close()
        stores.releases.close()

    def make(self, folder):
        path = folder / "platform.db"
        return Stores(SqliteTurns(path), SqliteReleases(path))


class TestInMemoryReleases(ReleaseHistoryExam):
    def make(self, folder):
        turns = InMemoryTurns()
        return Stores(turns, InMemoryReleases(turns))


class TestSqliteSkew(SkewStoreExam):
    def make(self, folder):
        return SqliteSkew(folder / "platform.db")


class TestInMemorySkew(SkewStoreExam):
    def make(self, folder):
        return InMemorySkew()


class TestSqliteSyncs(SyncStoreExam):
    @pytest.fixture
    def syncs(self, tmp_path):
        store = self.make(tmp_path)
        yield store
        store.close()

    def make(self, folder):
        return SqliteSyncs(folder / "platform.db")


class TestInMemorySyncs(SyncStoreExam):
    def make(self, folder):
        return InMemorySyncs()


class TestSqliteTeams(TeamStoreExam):
    def make(self, folder):
        return SqliteTeams(folder / "platform.db")


class TestInMemoryTeams(TeamStoreExam):
    def make(self, folder):
        return InMemoryTeams()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "platform.db"


@pytest.fixture
def releases(path):
    store = SqliteReleases(path)
    yield store
    store.close()


@pytest.fixture
def teams(path):
    store = SqliteTeams(path)
    yield store
    store.close()


@pytest.fixture
def turns(path):
    store = SqliteTurns(path)
    yield store
    store.close()


def promote(releases, version, **options):
    options = {"action": "promote", "offset": 5, "at": 10, "turn": None, "by": "test"} | options
    return releases.append("ranker", version, f"b{version}", **options)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE releases SET version = 9",
        "DELETE FROM releases",
        "REPLACE INTO releases SELECT * FROM releases",
        "DELETE FROM turns",
        "UPDATE turns SET state = 'promoted'",
    ],
)
def test_history_cannot_be_rewritten_by_hand(path, turns, releases, statement):
    turn = turns.open("ranker", "t", 1, now=0).id
    turns.finish(turn, "failed", 1, turns.claim(turn, "one", now=0, lease=10))
    entry = promote(releases, 1)
    before = turns.turns()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA recursive_triggers = ON")
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(statement)
    other.close()
    assert releases.entries() == [entry]
    assert turns.turns() == before


def test_it_survives_closing(path, turns):
    turn = turns.open("ranker", "t", 50, now=0)
    fence = turns.claim(turn.id, "one", now=0, lease=10)
    turns.save_step(turn.id, Step("collect", "a", {"rows": 1}, 0.5), fence)
    again = SqliteTurns(path)
    assert again.get(turn.id) == turn
    assert again.steps(turn.id) == [Step("collect", "a", {"rows": 1}, 0.5)]
    again.close()


def test_a_newer_schema_is_refused_and_left_alone(path, turns):
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(ConfigError, match="newer Feilun"):
        SqliteTurns(path)
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA user_version").fetchone() == (99,)
    other.close()


def test_a_file_that_is_no_database_is_kept_as_it_is(tmp_path):
    path = tmp_path / "platform.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptData):
        SqliteTurns(path)
    assert path.read_bytes() == b"not a database" * 100


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        SqliteTurns(tmp_path / "file" / "platform.db")


def test_use_after_close_is_an_error(path):
    store = SqliteTurns(path)
    store.close()
    with pytest.raises(FeilunError):
        store.turns()


def test_writes_are_durable_and_reads_do_not_wait(path, releases):
    assert releases._database._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert releases._database._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    entry = promote(releases, 1)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert releases.current("ranker") == entry
    writer.execute("ROLLBACK")
    writer.close()


def test_current_is_cheap_enough_to_poll(releases):
    for version in range(1, 30):
        promote(releases, version)
    best = min(_seconds(lambda: releases.current("ranker"), 200) for _ in range(10))
    assert best / 200 < 50e-6


def _seconds(call, times):
    start = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - start


RACER = """
import sys
from pathlib import Path
from feilun.adapters.sqlite import SqliteReleases, SqliteSyncs, SqliteTurns
from feilun.errors import Fenced

name, version, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
turns, releases = SqliteTurns(path), SqliteReleases(path)
for cut in range(1, 21):
    turn = turns.open("ranker", "t", cut, now=0).id
    try:
        # Leases of no length: both may claim at any moment, so only the fence decides.
        fence = turns.claim(turn, name, now=0, lease=0)
        releases.append("ranker", version, f"b{version}", action="promote", offset=cut, at=0,
                        turn=turn, by=name, fence=fence)
        turns.finish(turn, "promoted", 1, fence)
    except Fenced:
        pass
"""


def test_two_promoters_race_and_one_wins_each_turn(path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, name, str(version), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version, name in enumerate(("one", "two"), start=1)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:  # they also race to make the file
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    turns, releases = SqliteTurns(path), SqliteReleases(path)
    assert [turn.cut for turn in turns.turns()] == list(range(1, 21))
    # Whoever claimed last could always finish, and nothing was released twice.
    assert {turn.state for turn in turns.turns()} == {"promoted"}
    assert sorted(entry.turn for entry in releases.entries()) == [t.id for t in turns.turns()]
    turns.close()
    releases.close()


def test_many_threads_share_one_store(turns):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda n: turns.open("ranker", "t", n % 5, now=n), range(40)))
    assert len({turn.id for turn in opened}) == 5
    assert {turn.cut for turn in turns.turns()} == set(range(5))


def test_a_file_of_the_first_version_gets_what_was_added_since(path):
    path.parent.mkdir()
    older = sqlite3.connect(path)
    older.executescript(SCHEMAS[0])
    older.execute("INSERT INTO examined VALUES ('ranker', 7)")
    older.execute("INSERT INTO releases VALUES (41, 'ranker', 3, 'b', 'promote', 5, 6, 7, 'ann')")
    older.execute("PRAGMA user_version = 1")
    older.commit()
    older.close()
    syncs, turns = SqliteSyncs(path), SqliteTurns(path)
    assert syncs.statuses() == {}
    assert turns.examined("ranker") == 7
    releases = SqliteReleases(path)
    kept = releases.current("ranker")
    assert kept == (41, "ranker", 3, "b", "promote", 5, 6, 7, "ann")
    adopted = releases.append("ranker", 4, "c", action="adopt", offset=5, at=7, turn=None, by="ann")
    assert adopted.sequence == 42
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        sqlite3.connect(path).execute("DELETE FROM releases")
    releases.close()
    syncs.close()
    turns.close()


def add_team(teams, name="growth", id="aa11"):
    return teams.add(name, ["events"], 5.0, NewKey(id, b"d" * 32), at=1, by="ann")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET by = 'eve'",
        "DELETE FROM audit",
        "REPLACE INTO audit SELECT * FROM audit",
        "UPDATE keys SET revoked = NULL",
        "UPDATE keys SET expires = 9",
        "DELETE FROM keys",
    ],
)
def test_what_was_done_to_keys_cannot_be_undone_by_hand(path, teams, statement):
    add_team(teams)
    teams.revoke("growth", at=2, by="ann")
    before = teams.load(), teams.audit(10)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA recursive_triggers = ON")
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(statement)
    other.close()
    assert (teams.load(), teams.audit(10)) == before


def test_promotions_are_audited_once(releases, turns, teams):
    turn = turns.open("ranker", "t", 1, now=0).id
    fence = turns.claim(turn, "one", now=0, lease=10)
    promote(releases, 3, turn=turn, fence=fence)
    promote(releases, 3, turn=turn, fence=fence)
    promote(releases, 2, action="rollback", by="bob")
    assert [entry[1:] for entry in teams.audit(10)] == [
        (10, "test", "promote", "ranker", "version 3, bundle b3"),
        (10, "bob", "rollback", "ranker", "version 2, bundle b2"),
    ]


def test_stages_of_a_rollout_are_audited(releases, teams):
    promoted = promote(releases, 3)
    releases.append_rollout(
        "ranker", "canary", 4, "b4", percent=5, salt="s", release=promoted.sequence, after=0,
        offset=0, at=11, by="ann",
    )  # fmt: skip
    assert teams.audit(1)[0][1:] == (
        11,
        "ann",
        "rollout",
        "ranker",
        "canary, version 4, 5 %, bundle b4",
    )


def test_what_another_process_changed_is_seen_at_the_next_look(path, teams):
    add_team(teams)
    assert len(teams.load().teams) == 1
    other = SqliteTeams(path)
    add_team(other, "ads", "bb22")
    assert len(teams.load().teams) == 2
    other.revoke("growth", at=3, by="ann")
    assert [team.revoked for team in teams.load().teams] == [None, 3]
    other.close()


def test_teams_that_nobody_changes_are_cheap_to_look_at(path, teams):
    for number in range(200):
        add_team(teams, f"team{number}", f"{number:012x}")
    assert len(teams.load().keys) == 200
    assert min(_seconds(teams.load, 200) for _ in range(10)) / 200 < 100e-6


def test_a_database_that_is_gone_is_not_read_from_memory(path, teams):
    add_team(teams)
    teams.load()
    away = path.with_name("away.db")
    path.rename(away)
    with pytest.raises(ConfigError, match="feilun recover"):
        teams.load()
    with pytest.raises(ConfigError, match="is gone"):
        add_team(teams, "ads", "bb22")
    assert not path.exists()
    away.rename(path)
    assert [team.name for team in teams.load().teams] == ["growth"]


def test_a_database_that_was_put_back_is_the_one_that_counts(tmp_path, path, teams):
    elsewhere = SqliteTeams(tmp_path / "copy" / "platform.db")
    add_team(elsewhere, "ads")
    elsewhere.close()
    add_team(teams)
    teams.load()
    for left in path.parent.iterdir():
        left.unlink()
    (tmp_path / "copy" / "platform.db").rename(path)
    assert [team.name for team in teams.load().teams] == ["ads"]
    add_team(teams, "growth", "cc33")
    assert [team.name for team in teams.load().teams] == ["ads", "growth"]


def test_releases_are_those_of_the_file_that_was_put_back(path, releases):
    promote(releases, 1)
    saved = {file: file.read_bytes() for file in path.parent.iterdir()}
    promote(releases, 2)
    for file in saved:
        file.unlink()
    for file, content in saved.items():
        file.write_bytes(content)
    assert releases.current("ranker").version == 1
    other = SqliteReleases(path, new=False)
    promote(other, 3)
    assert releases.current("ranker").version == 3
    assert promote(releases, 4) == other.current("ranker")
    other.close()


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_database_that_must_be_there_is_not_made(path, how):
    path.parent.mkdir()
    if how == "empty":
        path.touch()
    store = SqliteTeams(path, new=False)
    for use in (store.load, lambda: add_team(store), store.usage):
        with pytest.raises(ConfigError, match="feilun recover"):
            use()
    assert path.exists() == (how == "empty")
    made = SqliteTeams(path)
    add_team(made)
    assert [team.name for team in store.load().teams] == ["growth"]
    made.close()
    store.close()


@pytest.mark.parametrize("mended", ["in its place", "by another file"])
def test_a_damaged_database_is_used_again_once_it_is_mended(path, teams, mended):
    add_team(teams)
    teams.close()
    sound = path.read_bytes()
    path.write_bytes(bytes(12_000) + sound[12_000:])
    store = SqliteTeams(path, new=False)
    for _ in range(2):
        with pytest.raises(CorruptData):
            store.load()
    if mended == "by another file":
        path.unlink()
    path.write_bytes(sound)
    assert [team.name for team in store.load().teams] == ["growth"]
    store.close()


def test_a_file_that_becomes_damaged_is_used_again_once_it_is_mended(path, teams):
    add_team(teams)
    teams.close()  # the only one: what was written is in the file itself now
    sound = path.read_bytes()
    store = SqliteTeams(path, new=False)
    store.load()
    path.write_bytes(b"no database".ljust(len(sound), b"!"))
    with pytest.raises(CorruptData):
        for _ in range(3):
            store.usage()
            store._database._connection.execute("PRAGMA shrink_memory")
    path.write_bytes(sound)
    assert store.usage() == []
    store.close()


def test_the_log_is_known_with_every_offset_that_is_kept(path):
    turns, releases = SqliteTurns(path), SqliteReleases(path)
    with closing(SqliteKnownLog(path)) as known, closing(turns), closing(releases):
        assert (known.has_begun(), known.end()) == (False, 0)
        known.note(5)
        known.note(6)
        assert known.has_begun()
        turns.note_examined("ranker", 3)
        assert known.end() == 3
        turns.open("ranker", "t", 9, now=1)
        assert known.end() == 9
        releases.append("ranker", 1, "b", action="adopt", offset=40, at=7, turn=None, by="ann")
        assert known.end() == 40
        with closing(SqliteSyncs(path)) as syncs:
            syncs.save("stock", SyncStatus(), {"part": "mark"}, [b"12345678"])
            known.forget_rows()
            assert syncs.load("stock") is None
