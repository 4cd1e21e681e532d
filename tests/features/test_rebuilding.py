"""A store that begins with nothing over a log that has records: nobody reads half of it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.clock import HOUR
from feilun.features import engine as engine_module
from feilun.features.built import KEY, decode_built
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.testing.fakes import MemoryLog, MemoryStore

USERS = (1, 2)


class Killed(Exception):
    pass


class Watched(MemoryStore):
    """Lets a reader look after every change, and dies before one of its commits."""

    def __init__(self):
        super().__init__()
        self.look = lambda: None
        self.commits_left = -1

    def commit(self, puts, expected, mark):
        self.commits_left -= 1
        if self.commits_left == -1:
            raise Killed
        super().commit(puts, expected, mark)
        self.look()

    def clear(self):
        super().clear()
        self.look()


def features_of(shop):
    return (
        shop.feature("count", "count", "user"),
        shop.feature("hours", "count", "user", window=30 * HOUR),
        shop.feature("spent", "sum", "user", of="item"),
        shop.feature("popular", "top", of="item", n=3),
    )


def seen(reader, features):
    """Return what each user's features are, by address; None where one is missing and flagged."""
    with reader.snapshot() as snapshot:
        as_of, unbuilt = snapshot.mark.time + 1, set(snapshot.unbuilt(features))
        rows = [snapshot.read_row(features, {"user": user}, as_of) for user in USERS]
    for row in rows:
        assert unbuilt <= set(row.missing)
    return [
        {address: None if address in unbuilt else row.values[address] for address in row.values}
        for row in rows
    ]


def run_to_end(engine, limit=3):
    while engine.run_once(limit):
        pass


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_reader_at_any_moment_of_a_rebuild_sees_the_right_value_or_none(shop, data):
    shop = type(shop)()
    features = features_of(shop)
    project, log, store = shop.project(*features), MemoryLog(), Watched()
    # The same time for all, so that windows are the same at every moment of the rebuild.
    log.append([shop.buy(1 + n % 2, n % 4, time=shop.start) for n in range(20)])
    run_to_end(Engine(project, log, store))
    reader = OnlineReader(project, store)
    (wanted,) = [seen(reader, features)]
    assert all(value is not None for row in wanted for value in row.values())
    looked = []
    store.look = lambda: looked.append(seen(reader, features))
    limit = data.draw(st.integers(1, 25))
    store.commits_left = data.draw(st.integers(0, 20))
    try:
        Engine(project, log, store).rebuild(limit)
    except Killed:
        looked.append(seen(reader, features))
        run_to_end(Engine(project, log, store), data.draw(st.integers(1, 25)))
    absent = [dict.fromkeys(row) for row in wanted]
    assert all(found in (wanted, absent) for found in looked)
    assert looked[0] == absent
    assert looked[-1] == seen(reader, features) == wanted


@pytest.mark.parametrize("limit", [4, 100])
def test_records_that_come_meanwhile_make_it_wait_no_longer(shop, limit):
    features = features_of(shop)
    project, log, store = shop.project(*features), MemoryLog(), Watched()
    log.append([shop.buy(1, n % 4) for n in range(10)])
    reader, engine = OnlineReader(project, store), Engine(project, log, store)
    whole = []

    def look():
        if not log.end() > 60:
            log.append([shop.buy(1, 1) for _ in range(5)])
        (one, _) = seen(reader, features)
        with store.snapshot() as snapshot:
            mark = snapshot.mark().offset
        whole.append(one["view:count"] == mark)
        assert whole[-1] == (mark >= 10)
        assert whole[-1] or set(one.values()) == {None}

    store.look = look
    run_to_end(engine, limit)
    assert whole[-1]
    with store.snapshot() as snapshot:
        assert decode_built(snapshot.get(KEY), project).until == 0


def test_a_new_platform_answers_at_once_and_goes_on_while_it_is_behind(shop):
    features = features_of(shop)
    project, log, store = shop.project(*features), MemoryLog(), MemoryStore()
    engine, reader = Engine(project, log, store), OnlineReader(project, store)
    engine.run_once()
    assert seen(reader, features)[0]["view:count"] == 0
    log.append([shop.buy(1, 1) for _ in range(9)])
    engine.run_once(4)
    assert seen(reader, features)[0]["view:count"] == 4  # folded_offset says of how many


def test_other_definitions_in_the_middle_of_a_rebuild(shop, monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 2)
    count, *others = features_of(shop)
    log, store = MemoryLog(), Watched()
    log.append([shop.buy(1, n % 4) for n in range(20)])
    Engine(shop.project(count), log, store).run_once(7)
    project = shop.project(count, *others)
    reader = OnlineReader(project, store)
    found = []
    store.look = lambda: found.append(seen(reader, (count, *others))[0])
    run_to_end(Engine(project, log, store), 4)
    assert {row["view:count"] for row in found} == {None, 20}
    assert {row["view:spent"] for row in found} == {None, sum(n % 4 for n in range(20))}


def test_a_log_that_became_shorter_meanwhile_is_caught_up_with_at_its_end(shop):
    """A backup that is older than the rebuild which was broken off."""
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    log, older = MemoryLog(), MemoryLog()
    log.append([shop.buy(1, 1) for _ in range(9)])
    older.append([record for _, record in log.read(0, 5)])
    Engine(project, log, store).run_once(3)
    run_to_end(Engine(project, older, store))
    assert seen(OnlineReader(project, store), [count])[0] == {"view:count": 5}
