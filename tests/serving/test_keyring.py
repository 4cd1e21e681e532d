"""The keys that a worker knows: how they follow the store, and what holds while it is away."""

import asyncio

import pytest

from feilun.errors import Unavailable
from feilun.serving.access import keyring as module
from feilun.serving.access.keyring import STALE_SECONDS, Keyring
from feilun.serving.access.keys import make_key
from feilun.testing.team_fakes import InMemoryTeams

GONE = Unavailable("The disk is gone.", "Put it back.")


class World:
    def __init__(self):
        self.teams, self.seconds = InMemoryTeams(), 1_000.0
        self.keyring = Keyring(self.teams, required=False, monotonic=lambda: self.seconds)

    def add(self, name, expires=None):
        made = make_key(expires)
        self.teams.add(name, ["events"], 1.0, made.stored, at=1, by="test")
        return made.text.encode()


@pytest.fixture
def world():
    return World()


def test_before_it_has_read_anything_nobody_is_let_in(world):
    key = world.add("growth")
    with pytest.raises(Unavailable):
        world.keyring.check_fresh()
    with pytest.raises(Unavailable):
        world.keyring.find(key, 0)


def test_a_key_is_known_by_the_whole_of_it(world):
    key = world.add("growth")
    world.keyring.refresh()
    found = world.keyring.find(key, 0)
    assert (found.team.name, found.key) == ("growth", key[4:16].decode())
    other = make_key().text.encode()
    for wrong in (key[:-1], key + b"a", key[:17] + other[17:], other, b"", key.upper()):
        assert world.keyring.find(wrong, 0) is None


def test_what_is_revoked_is_unknown_after_the_next_look(world):
    key, others = world.add("growth"), world.add("ads")
    world.keyring.refresh()
    world.teams.revoke("growth", at=2, by="test")
    assert world.keyring.find(key, 0) is not None
    world.keyring.refresh()
    assert world.keyring.find(key, 0) is None
    assert world.keyring.find(others, 0) is not None


def test_a_key_of_a_team_that_came_back_is_only_its_new_one(world):
    old = world.add("growth")
    world.teams.revoke("growth", at=2, by="test")
    new = world.add("growth")
    world.keyring.refresh()
    assert world.keyring.find(old, 0) is None
    assert world.keyring.find(new, 0).team.name == "growth"


def test_a_key_ends_at_its_moment(world):
    key = world.add("growth", expires=50)
    world.keyring.refresh()
    assert world.keyring.find(key, 49) is not None
    assert world.keyring.find(key, 50) is None


def test_while_the_store_is_away_the_last_keys_hold_for_a_while_and_then_nobodys(world):
    key = world.add("growth")
    world.keyring.refresh()
    world.teams.failure = GONE
    world.seconds += STALE_SECONDS - 1
    with pytest.raises(Unavailable):
        world.keyring.refresh()
    assert world.keyring.find(key, 0) is not None
    world.seconds += 1
    for call in (world.keyring.check_fresh, lambda: world.keyring.find(key, 0)):
        with pytest.raises(Unavailable, match="nobody is let in"):
            call()
    world.teams.failure = None
    world.keyring.refresh()
    assert world.keyring.find(key, 0) is not None


def test_keys_stay_required_in_a_worker_even_if_the_teams_are_gone(world):
    world.add("growth")
    world.keyring.refresh()
    world.keyring._store = InMemoryTeams()  # the file was put back from before the first team
    world.keyring.refresh()
    assert world.keyring.required


def test_following_says_once_what_is_wrong_and_takes_up_what_comes(world, monkeypatch, caplog):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)

    async def until(condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def session():
        following = asyncio.create_task(world.keyring.follow())
        key = world.add("growth")
        await until(lambda: world.keyring.required)
        assert world.keyring.find(key, 0) is not None
        world.teams.failure = GONE
        await until(world.keyring.problem)
        await asyncio.sleep(0.05)
        world.seconds += 7
        assert "for 7 s" in world.keyring.problem()
        world.teams.failure = None
        await until(lambda: not world.keyring.problem())
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    world.keyring.refresh()
    asyncio.run(session())
    assert caplog.text.count("The disk is gone.") == 1
