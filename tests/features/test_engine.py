from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from feilun.clock import DAY, HOUR
from feilun.errors import ConfigError, CorruptData, Fenced, InputError
from feilun.features import engine as engine_module
from feilun.features import increments
from feilun.features.built import KEY, Built, encode_built
from feilun.features.engine import Engine
from feilun.features.online import OnlineReader
from feilun.features.set_aside import SetAside
from feilun.ports.online_store import Mark
from feilun.records.record import LATE
from feilun.records.schema import schemas_of
from feilun.testing.fakes import MemoryLog, MemoryStore

TOO_LONG = "京" * 100


def read(project, store, feature, **keys: Any):
    with OnlineReader(project, store).snapshot() as snapshot:
        column = snapshot.read([feature], keys, None, (), snapshot.mark.time + 1)[feature.address]
        return column.values[0] if column.present[0] else None


def run_to_end(engine: Engine, limit: int = 10) -> int:
    return sum(iter(lambda: engine.run_once(limit), 0))


def log_of(*records) -> MemoryLog:
    log = MemoryLog()
    log.append(records)
    return log


def test_folds_counts_and_says_how_far_it_lags(shop):
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    log = log_of(*(shop.buy(n % 2, n) for n in range(5)))
    engine = Engine(project, log, store)
    assert engine.lag() == 5
    assert [engine.run_once(2) for _ in range(4)] == [2, 2, 1, 0]
    assert (engine.lag(), engine.folded) == (0, 5)
    assert read(project, store, count, user=0) == 3
    with store.snapshot() as snapshot:
        assert snapshot.mark() == Mark(5, shop.start + 5)


def test_the_mark_passes_what_is_not_folded_and_keeps_the_newest_time(shop):
    count = shop.feature("count", "count", "user")
    store = MemoryStore()
    newest = shop.start + HOUR
    log = log_of(
        shop.buy(1, 1, time=newest),
        shop.buy(1, 1, time=shop.start),
        shop.buy(1, 1, time=shop.start + 2 * HOUR, flags=LATE),
        replace_schema(shop.buy(1, 1, time=shop.start + 3 * HOUR), "feilun.prediction.1"),
        replace_schema(shop.buy(1, 1, time=shop.start + 4 * HOUR), "gone.v1.00000000"),
    )
    run_to_end(Engine(shop.project(count), log, store), limit=1)
    with store.snapshot() as snapshot:
        assert snapshot.mark() == Mark(5, newest)
    assert read(shop.project(count), store, count, user=1) == 2


def replace_schema(record, schema):
    return msgspec.structs.replace(record, schema=schema)


def test_of_two_engines_one_is_fenced(shop, monkeypatch):
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    log = log_of(*(shop.buy(1, n) for n in range(6)))
    first, second = Engine(project, log, store), Engine(project, log, store)
    first.run_once(2)
    commit = store.commit

    def race(puts, expected, mark):
        monkeypatch.setattr(store, "commit", commit)
        second.run_once(3)
        commit(puts, expected, mark)

    monkeypatch.setattr(store, "commit", race)
    with pytest.raises(Fenced):
        first.run_once(4)
    assert first.run_once() == 1
    assert read(project, store, count, user=1) == 6


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_poison_is_set_aside_and_its_neighbours_are_folded(shop, limit):
    by_city = shop.feature("by_city", "count", "city")
    by_user = shop.feature("by_user", "count", "user")
    project, store = shop.project(by_city, by_user), MemoryStore()
    cities = ["a", TOO_LONG, "a", "b", TOO_LONG, "a", "b"]
    log = log_of(*(shop.buy(1, n, city) for n, city in enumerate(cities)))
    assert run_to_end(Engine(project, log, store), limit) == 7
    assert read(project, store, by_city, city="a") == 3
    assert read(project, store, by_city, city="b") == 2
    assert read(project, store, by_user, user=1) == 5  # what is set aside counts nowhere
    bad = log.bad()
    assert [b.reason[:11] for b in bad] == ["Offset 1: i", "Offset 4: i"]
    assert all("at most 200" in b.reason for b in bad)
    Engine(project, log, store).rebuild()
    assert len(log.bad()) == 2
    assert SetAside(log).offsets() == {1, 4}
    assert read(project, store, by_user, user=1) == 5


def test_a_body_that_is_not_its_schema_is_set_aside(shop):
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    broken = shop.buy("not a number", 1)
    log = log_of(shop.buy(1, 1), broken, shop.buy(1, 1))
    run_to_end(Engine(project, log, store))
    assert read(project, store, count, user=1) == 2
    assert [b.reason.partition(":")[0] for b in log.bad()] == ["Offset 1"]


def test_a_crash_between_setting_aside_and_committing_keeps_it_once(shop, monkeypatch):
    by_city = shop.feature("by_city", "count", "city")
    project, store = shop.project(by_city), MemoryStore()
    log = log_of(shop.buy(1, 1, "a"), shop.buy(1, 1, TOO_LONG))
    engine = Engine(project, log, store)
    assert engine.run_once(1) == 1

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "commit", crash)
    with pytest.raises(KeyboardInterrupt):
        engine.run_once()
    assert len(log.bad()) == 1
    monkeypatch.undo()
    run_to_end(Engine(project, log, store))
    assert len(log.bad()) == 1
    assert read(project, store, by_city, city="a") == 1


def test_a_record_that_fails_less_often_than_it_is_tried_is_folded(shop, monkeypatch):
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    log = log_of(shop.buy(1, 1))
    failures = iter([True, True, False])
    fold_all = increments.fold_all

    def moody(plans, events):
        if next(failures):
            raise ValueError("not today")
        return fold_all(plans, events)

    monkeypatch.setattr(increments, "fold_all", moody)
    Engine(project, log, store, tries=3).run_once()
    assert read(project, store, count, user=1) == 1
    assert log.bad() == []


def test_what_fails_for_every_record_is_no_poison(shop):
    by_city = shop.feature("by_city", "count", "city")
    project, store = shop.project(by_city), MemoryStore()
    log = log_of(*(shop.buy(1, 1, TOO_LONG) for _ in range(9)))
    engine = Engine(project, log, store, poison_limit=3)
    with pytest.raises(InputError):
        run_to_end(engine)
    assert len(log.bad()) == 3
    with store.snapshot() as snapshot:
        assert snapshot.mark().offset == 0


@pytest.mark.parametrize("error", [MemoryError, ConfigError])
def test_the_machines_faults_are_not_blamed_on_a_record(shop, monkeypatch, error):
    def fail(plans, events):
        raise error("out of order")

    monkeypatch.setattr(increments, "fold_all", fail)
    log = log_of(shop.buy(1, 1))
    with pytest.raises(error):
        Engine(shop.project(shop.feature("count", "count", "user")), log, MemoryStore()).run_once()
    assert log.bad() == []


def test_a_new_fold_is_built_from_the_log_before_it_is_read(shop):
    count = shop.feature("count", "count", "user")
    top = shop.feature("top", "top", "user", of="item", n=2)
    before, after = shop.project(count), shop.project(count, top)
    log, store = log_of(*(shop.buy(1, n % 3) for n in range(7))), MemoryStore()
    run_to_end(Engine(before, log, store))
    with OnlineReader(after, store).snapshot() as snapshot:
        assert snapshot.unbuilt([count, top]) == ["view:top"]
        column = snapshot.read([top], {"user": 1}, None, (), snapshot.mark.time + 1)["view:top"]
        assert not column.present[0]
    log.append([shop.buy(1, 2)])
    run_to_end(Engine(after, log, store))
    assert read(after, store, top, user=1) == [0, 2]
    assert read(after, store, count, user=1) == 8
    with OnlineReader(after, store).snapshot() as snapshot:
        assert snapshot.unbuilt([count, top]) == []


def test_a_fold_is_unbuilt_even_where_its_value_would_look_present(shop):
    """A count of no tiles is 0: without the check a new count would say so, wrongly."""
    old, new = shop.feature("old", "count", "user"), shop.feature("new", "count", "item")
    log, store = log_of(shop.buy(1, 7)), MemoryStore()
    run_to_end(Engine(shop.project(old), log, store))
    assert read(shop.project(old, new), store, new, item=7) is None
    run_to_end(Engine(shop.project(old, new), log, store))
    assert read(shop.project(old, new), store, new, item=7) == 1


def test_a_longer_window_over_the_same_tiles_is_built_from_the_log(shop):
    short = shop.feature("short", "count", "user", window=2 * HOUR)
    long = shop.longer(short, 30 * HOUR)
    assert long.fold.fingerprint == short.fold.fingerprint
    log, store = MemoryLog(), MemoryStore()
    log.append([shop.buy(1, 1, time=shop.start + n * HOUR) for n in range(20)])
    run_to_end(Engine(shop.project(short), log, store), limit=1)
    both = shop.project(short, long)
    assert read(both, store, long, user=1) is None
    assert read(both, store, short, user=1) == 3
    run_to_end(Engine(both, log, store))
    assert read(both, store, long, user=1) == 20
    assert read(both, store, short, user=1) == 3


def test_a_fold_that_was_dropped_and_comes_back_is_built_anew(shop):
    count, total = (
        shop.feature("count", "count", "user"),
        shop.feature("sum", "sum", "user", of="price"),
    )
    log, store = MemoryLog(), MemoryStore()
    for project in (shop.project(count, total), shop.project(count), shop.project(count, total)):
        log.append([shop.buy(1, 1, price=2.0)])
        run_to_end(Engine(project, log, store))
    assert read(project, store, total, user=1) == 6.0
    assert read(project, store, count, user=1) == 3


def test_backfill_moves_the_newest_time(shop):
    """Tiles that are new in the store may hold events later than any folded before."""
    other = replace(shop.event, name="sell")
    count = shop.feature("count", "count", "user")
    sold = replace(count, name="sold", fold=replace(count.fold, event="sell"))
    before = shop.project(count)
    after = replace(shop.project(count, sold), events={"buy": shop.event, "sell": other})
    later = replace_schema(shop.buy(1, 1, time=shop.start + HOUR), other.schema_id)
    log, store = log_of(shop.buy(1, 1), later), MemoryStore()
    run_to_end(Engine(before, log, store))
    run_to_end(Engine(after, log, store))
    with store.snapshot() as snapshot:
        assert snapshot.mark() == Mark(2, shop.start + HOUR)
    assert read(after, store, sold, user=1) == 1


def test_backfill_in_many_reads(shop, monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 3)
    count, last = (
        shop.feature("count", "count", "user"),
        shop.feature("last", "last", "user", of="item"),
    )
    log, store = log_of(*(shop.buy(n % 2, n) for n in range(10))), MemoryStore()
    run_to_end(Engine(shop.project(last), log, store))
    project = shop.project(count, last)
    run_to_end(Engine(project, log, store))
    assert [read(project, store, count, user=user) for user in (0, 1)] == [5, 5]


def test_rebuild_gives_the_same_bytes(shop):
    features = [
        shop.feature("count", "count", "user", window=DAY),
        shop.feature("last", "last", "user", of="item"),
    ]
    project = shop.project(*features)
    log, store = log_of(*(shop.buy(n % 3, n) for n in range(10))), MemoryStore()
    engine = Engine(project, log, store)
    run_to_end(engine, limit=2)
    with store.snapshot() as snapshot:
        before = snapshot
    assert engine.rebuild() == 10
    with store.snapshot() as snapshot:
        assert snapshot._values == before._values
        assert snapshot.mark() == before.mark()


@pytest.mark.parametrize("limit", [7, 100])
def test_keys_are_merged_a_share_at_a_time(shop, monkeypatch, limit):
    project = shop.project(
        shop.feature("count", "count", "user", window=2 * HOUR),
        shop.feature("recent", "last", "user", of="item", n=2),
        shop.feature("pair", "count", "user item"),
    )
    log = log_of(*(shop.buy(n % 9, n % 4, time=shop.start + n * HOUR // 9) for n in range(100)))
    whole, shares = MemoryStore(), MemoryStore()
    run_to_end(Engine(project, log, whole), limit)
    monkeypatch.setattr(increments, "KEYS_AT_ONCE", 2)
    run_to_end(Engine(project, log, shares), limit)
    assert whole._values == shares._values


def test_a_store_beyond_the_log_is_refused(shop):
    project, store = shop.project(shop.feature("count", "count", "user")), MemoryStore()
    run_to_end(Engine(project, log_of(shop.buy(1, 1), shop.buy(1, 1)), store))
    with pytest.raises(ConfigError, match="do not belong together"):
        Engine(project, log_of(shop.buy(1, 1)), store).run_once()


@pytest.mark.parametrize("raw", [b"\xc1", encode_built(Built()).replace(b"\x02", b"\x09", 1)])
def test_where_the_list_of_tiles_cannot_be_read_all_are_made_anew(shop, raw, monkeypatch):
    count = shop.feature("count", "count", "user")
    project, store = shop.project(count), MemoryStore()
    log = log_of(*(shop.buy(1, 1) for _ in range(9)))
    run_to_end(Engine(project, log, store))
    store.commit([(KEY, raw)], 9, Mark(9, shop.start + 9))
    with pytest.raises(CorruptData, match="rebuild"):
        read(project, store, count, user=1)
    with monkeypatch.context() as patch:
        patch.setattr(log, "damaged", lambda: [(3, 5)])
        with pytest.raises(CorruptData, match="offsets 3 to 4 are damaged"):
            Engine(project, log, store).run_once()
    engine = Engine(project, log, store)
    engine.run_once(4)
    assert read(project, store, count, user=1) is None
    run_to_end(engine)
    assert read(project, store, count, user=1) == 9


def test_a_field_that_becomes_optional_takes_no_event_from_others(shop):
    """While it was required its tiles lay in the same rows as others': they must not any more."""
    count, total = (
        shop.feature("count", "count", "user"),
        shop.feature("sum", "sum", "user", of="price"),
    )
    *others, price = shop.event.fields
    once = type(shop)(replace(shop.event, fields=(*others, replace(price, optional=False))))
    required = [replace(f, fold=replace(f.fold, required=True)) for f in (count, total)]
    optional = [required[0], total]
    log, store = log_of(once.buy(1, 1, price=2.0)), MemoryStore()
    log.declare(schemas_of([once.event]))
    run_to_end(Engine(once.project(*required), log, store))
    assert read(once.project(*required), store, count, user=1) == 1
    shop.made = once.made
    log.append([shop.buy(1, 1), shop.buy(1, 1, price=3.0)])
    project = shop.project(*optional)
    run_to_end(Engine(project, log, store))
    assert read(project, store, count, user=1) == 3
    assert read(project, store, total, user=1) == 5.0
