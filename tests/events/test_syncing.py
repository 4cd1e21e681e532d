"""Rows of a table come in once, whatever happens between two syncs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import DAY, HOUR, MINUTE, SECOND, ManualClock
from feilun.definitions.specs import EntitySpec, EventSpec, FieldSpec, Project, TableSpec
from feilun.errors import InputError, StoreFull, Unavailable, UnknownName
from feilun.events.syncing import LAST_RETRY, due_at, sync_table
from feilun.events.table_rows import TableRows
from feilun.ports.sync_store import SyncStatus
from feilun.ports.table_source import Chunk
from feilun.records.erasure import Erasures
from feilun.records.record import IMPORTED, LATE
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START as NOW
from feilun.testing.table_fakes import InMemorySyncs, InMemoryTables

ITEM = EntitySpec("item_id", "int")
TABLE = TableSpec(
    source="warehouse",
    table="shop.stock",
    key=("item_id",),
    time="updated_at",
    columns=("商品", "quantity", "note"),
    every=15 * MINUTE,
    lookback=HOUR,
)
FIELDS = (
    FieldSpec("item_id", "int"),
    FieldSpec("quantity", "int"),
    FieldSpec("note", "str", optional=True),
)


def project_of(table=TABLE, fields=FIELDS, version=1):
    event = EventSpec("stock", version, fields, "item_id", table=table)
    return Project("shop", "Asia/Shanghai", {"item_id": ITEM}, {"stock": event}, {}, {}, {}, {})


def row(item, time, quantity=1, **more):
    return {"商品": item, "quantity": quantity, "note": None, "updated_at": time, **more}


class World:
    """One table, one log, and what is remembered; a sync a minute."""

    def __init__(self, rows=(), *, project=None, chunk=2):
        self.rows = list(rows)
        self.log, self.store = MemoryLog(), InMemorySyncs()
        self.clock = ManualClock(NOW)
        self.project = project or project_of()
        self.source = InMemoryTables({"shop.stock": self.rows}, chunk)

    def sync(self, **how):
        self.clock.advance(MINUTE)
        rows = TableRows(self.project, "stock")
        return sync_table(rows, lambda: self.source, self.log, self.store, self.clock, **how)

    def counts(self, **how):
        done = self.sync(**how)
        return (done.rows, done.new, done.duplicates, done.conflicts, done.bad)

    def records(self):
        return [record for _, record in self.log.read(0)]


def test_a_row_becomes_a_record_known_from_when_it_was_read():
    world = World([row(7, NOW - 500 * DAY)])
    assert world.sync() == SyncStatus(
        state="done", started=NOW + MINUTE, ended=NOW + MINUTE, rows=1, new=1,
        watermark=NOW - 500 * DAY, origin=world.store.load("stock").status.origin, log_end=1,
    )  # fmt: skip
    (record,) = world.records()
    assert (record.source, record.subject) == ("table:stock", "item_id=7")
    assert (record.time, record.client_time) == (NOW - 500 * DAY,) * 2
    assert (record.received, record.available) == (NOW + MINUTE,) * 2
    assert record.flags == IMPORTED
    assert record.schema in world.log.schemas()


def test_an_unchanged_row_counts_once_at_any_age():
    world = World([row(7, NOW - 500 * DAY), row(8, NOW - 1)])
    assert world.counts() == (2, 2, 0, 0, 0)
    world.clock.advance(99 * DAY)
    assert world.counts() == (1, 0, 1, 0, 0)
    assert world.counts(full=True) == (2, 0, 2, 0, 0)
    assert not any(record.flags & LATE for record in world.records())


def test_a_changed_row_is_another_event():
    world = World([row(7, NOW - DAY, 5)])
    world.sync()
    world.rows[0] = row(7, NOW, 4)
    assert world.counts() == (1, 1, 0, 0, 0)
    assert [record.time for record in world.records()] == [NOW - DAY, NOW]


def test_old_rows_that_come_late_count_too():
    world = World([row(7, NOW - DAY)])
    world.sync()
    world.rows.append(row(8, NOW - DAY - HOUR))
    assert world.counts() == (2, 1, 1, 0, 0)
    world.rows.append(row(9, NOW - DAY - HOUR - 1))
    assert world.counts() == (2, 0, 2, 0, 0)  # further back than the lookback
    assert world.counts(full=True) == (3, 1, 2, 0, 0)


def test_a_row_that_changed_without_its_time_is_a_conflict_and_kept_once():
    world = World([row(7, NOW - DAY, 5)])
    world.sync()
    world.rows[0] = row(7, NOW - DAY, 4)
    assert world.counts() == (1, 0, 0, 1, 0)
    assert world.counts() == (1, 0, 0, 1, 0)
    (bad,) = world.log.bad()
    assert bad.source == "table:stock"
    assert "other content" in bad.reason
    world.rows[0] = row(7, NOW, 4)
    assert world.counts() == (1, 1, 0, 0, 0)


def test_rows_from_before_their_subject_was_erased_are_not_stored_again():
    world = World([row(7, NOW - DAY), row(8, NOW - DAY)])
    world.sync()
    world.log.erase(Erasures.begun().adding(["item_id=7"], NOW))
    done = world.sync(full=True)
    assert (done.rows, done.erased, done.duplicates) == (2, 1, 1)
    world.rows[0] = row(7, NOW, 4)
    assert world.counts() == (2, 1, 1, 0, 0)  # who comes back is new
    assert [record.subject for record in world.records()] == ["item_id=8", "item_id=7"]


def test_two_rows_of_one_key_and_time_are_a_conflict():
    world = World([row(7, NOW - DAY, 5), row(7, NOW - DAY, 4)])
    assert world.counts() == (2, 1, 0, 1, 0)


def test_rows_that_cannot_be_used_are_kept_with_their_reason_once():
    rows = [
        row(1, NOW - 1),
        row(None, NOW - 2),
        row("seven", NOW - 3),
        row(4, None),
        row(5, NOW - 4, quantity=None),
        row(6, NOW - 5, quantity=2**63),
        row(7, NOW - 6, note="\0"),
        row(8, 1_714_521_600),
        row(9, -1),
    ]
    world = World(rows)
    assert world.counts() == (9, 1, 0, 0, 8)
    reasons = {bad.reason for bad in world.log.bad()}
    for said in ("lacks the field 'item_id'", "fields.item_id", "updated_at: None is not a time",
                 "lacks the field 'quantity'", "fields.quantity", "NUL", "is not µs since 1970",
                 "before 1970"):  # fmt: skip
        assert any(said in reason for reason in reasons), said
    assert world.counts(full=True) == (9, 0, 1, 0, 8)
    assert len(world.log.bad()) == 8


def test_a_mended_row_comes_in_with_a_full_sync():
    world = World([row(1, NOW - 1), row("seven", NOW - 2)])
    world.sync()
    world.rows[1] = row(7, NOW - 2)
    assert world.counts(full=True) == (2, 1, 1, 0, 0)


def test_rows_of_the_future_wait():
    world = World([row(1, NOW), row(2, NOW + HOUR)])
    assert world.counts() == (1, 1, 0, 0, 0)
    world.clock.advance(HOUR)
    assert world.counts()[1] == 1


class Whole(InMemoryTables):
    """Returns everything in one part, as a file does."""

    def read(self, query, marks):
        rows = self._tables[query.table]
        if marks.get("file") != str(len(rows)):
            yield Chunk(rows, "file", "")
            yield Chunk((), "file", str(len(rows)))


def test_a_part_with_rows_of_the_future_is_read_again():
    world = World([row(1, NOW), row(2, NOW + HOUR)])
    world.source = Whole({"shop.stock": world.rows})
    assert world.counts() == (2, 1, 0, 0, 0)
    assert world.store.load("stock").status.ahead == 1
    world.clock.advance(HOUR)
    assert world.counts() == (2, 1, 1, 0, 0)
    assert world.counts() == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("available", "expected"),
    [(None, NOW + MINUTE), (HOUR, NOW - DAY + HOUR), (3 * DAY, NOW + MINUTE), ("known", NOW - 5)],
)
def test_history_may_say_when_it_became_known(available, expected):
    world = World(
        [row(7, NOW - DAY, known=NOW - 5)], project=project_of(replace(TABLE, available=available))
    )
    world.sync()
    assert world.records()[0].available == expected


def test_nothing_is_known_before_it_happened():
    table = replace(TABLE, available="known")
    world = World([row(7, NOW - DAY, known=NOW - DAY - 1)], project=project_of(table))
    assert world.counts() == (1, 0, 0, 0, 1)


def test_a_new_version_makes_every_row_new():
    world = World([row(7, NOW - 5 * DAY), row(8, NOW)])
    world.sync()
    world.project = project_of(version=2)
    assert world.counts() == (2, 2, 0, 0, 0)


def test_another_place_is_read_from_its_beginning():
    world = World([row(7, NOW - 5 * DAY), row(8, NOW)])
    world.sync()
    world.project = project_of(replace(TABLE, source="elsewhere"))
    assert world.counts() == (2, 0, 2, 0, 0)


def test_a_log_that_was_put_back_gets_its_rows_again():
    world = World([row(7, NOW - 5 * DAY), row(8, NOW)])
    world.sync()
    world.rows[0] = row(7, NOW - 5 * DAY, 99)
    assert world.counts(full=True) == (2, 0, 1, 1, 0)
    world.log = MemoryLog()
    assert world.counts() == (2, 2, 0, 0, 0)  # what was a conflict is the first now
    assert world.counts(full=True) == (2, 0, 2, 0, 0)


def test_what_is_told_to_stop_goes_on_later():
    world = World([row(n, NOW - DAY + n * HOUR) for n in range(10)])
    answers = itertools.chain([False, True], itertools.repeat(False))
    stopped = world.sync(stop=lambda: next(answers))
    assert (stopped.state, stopped.new) == ("running", 4)
    assert world.counts()[1] == 6


def test_only_tables_are_synchronised():
    with pytest.raises(UnknownName, match="stok"):
        TableRows(project_of(), "stok")


class Broken(Exception):
    pass


class Breaking:
    """Stands before a part and breaks at the n-th call, before or after it is done."""

    def __init__(self, inner, fuse):
        self._inner, self._fuse = inner, fuse

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        def call(*arguments):
            self._fuse.burn()
            answer = method(*arguments)
            self._fuse.burn()
            return answer

        return call


class Fuse:
    def __init__(self, length):
        self.left = length

    def burn(self):
        self.left -= 1
        if self.left == 0:
            raise Broken


def test_broken_off_at_any_step_nothing_is_lost_or_counted_twice():
    rows = [row(n, NOW - DAY + n * MINUTE, None if n % 4 == 3 else n) for n in range(9)]
    rows += [row(1, NOW - DAY + MINUTE, 99)]  # a conflict
    whole = World(rows)
    whole.sync()
    expected = sorted((r.id, r.body) for r in whole.records())
    for step in itertools.count(1):
        world = World(rows)
        fuse = Fuse(step)
        log, store = world.log, world.store
        world.log, world.store = Breaking(log, fuse), Breaking(store, fuse)
        try:
            world.sync()
            finished = True
        except Broken:
            finished = False
        world.log, world.store = log, store
        done = world.sync()
        assert done.state == "done"
        assert sorted((r.id, r.body) for r in world.records()) == expected
        assert len({bad.reason for bad in log.bad()}) == len({b.reason for b in whole.log.bad()})
        if finished:
            break
    assert step > 20


def test_a_failure_is_remembered_and_the_next_success_forgets_it():
    world = World([row(7, NOW - DAY)])
    right, world.source = world.source, None

    def fail(error):
        def connect():
            raise error

        world.clock.advance(MINUTE)
        with pytest.raises(type(error)):
            sync_table(
                TableRows(world.project, "stock"), connect, world.log, world.store, world.clock
            )
        return world.store.load("stock").status

    status = fail(Unavailable("The database sleeps.", "Wake it."))
    assert (status.state, status.failures) == ("failed", 1)
    assert status.error == "The database sleeps. Wake it."
    status = fail(KeyError("surprise"))
    assert (status.failures, status.error) == (2, "KeyError: 'surprise'")
    world.source = right
    done = world.sync()
    assert (done.state, done.failures, done.error, done.new) == ("done", 0, "", 1)


def test_a_full_log_loses_no_row():
    world = World([row(n, NOW - DAY + n * 2 * HOUR) for n in range(6)])
    world.log.quota = 3
    with pytest.raises(StoreFull):
        world.sync()
    world.log.quota = None
    assert world.sync().state == "done"
    assert len(world.records()) == 6


def test_when_a_table_is_due():
    done = SyncStatus("done", started=100 * SECOND, ended=200 * SECOND)
    assert due_at(TABLE, None) == 0
    assert due_at(TABLE, done) == 100 * SECOND + 15 * MINUTE
    assert due_at(TABLE, SyncStatus("running", started=100 * SECOND)) == 0
    assert due_at(replace(TABLE, every=None), None) is None
    waits = [
        due_at(TABLE, SyncStatus("failed", ended=NOW, failures=n)) - NOW for n in (1, 2, 3, 99)
    ]
    assert waits == [30 * SECOND, 60 * SECOND, 120 * SECOND, LAST_RETRY]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_the_table_does_the_log_has_each_state_once(data):
    """Rows appear, change and are committed late, within the lookback; syncs break off anywhere."""
    world = World(chunk=data.draw(st.integers(1, 3)))
    seen = {}  # (item, time) → quantity
    table = {}
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(0, 4))):
            item = data.draw(st.integers(0, 2))
            now = world.clock.now()
            earliest = max(max(seen, key=lambda s: s[1])[1] - HOUR, 0) if seen else now - DAY
            time = data.draw(st.integers(earliest, now))
            if (item, time) not in seen and time >= table.get(item, (0,))[0]:
                table[item] = (time, len(seen))
                seen[item, time] = len(seen)
                world.rows.append(row(item, time, seen[item, time]))
        fuse = Fuse(data.draw(st.integers(1, 40)))
        log, store = world.log, world.store
        world.log, world.store = Breaking(log, fuse), Breaking(store, fuse)
        try:
            world.sync()
        except Broken:
            pass
        finally:
            world.log, world.store = log, store
    world.sync()
    found = {(record.subject, record.time) for record in world.records()}
    assert len(found) == len(world.records())
    assert found == {(f"item_id={item}", time) for item, time in seen}


def test_numbers_of_databases_become_fields():
    from decimal import Decimal
    from uuid import UUID

    name = "12345678-1234-5678-1234-567812345678"
    world = World([row(Decimal(7), NOW - DAY, Decimal("3.00"), note=UUID(name))])
    world.sync()
    plain = World([row(7, NOW - DAY, 3, note=name)])
    plain.sync()
    assert world.records() == plain.records()
    with pytest.raises(InputError):
        TableRows(world.project, "stock").record(row(7, NOW, Decimal("NaN")), NOW, NOW)
