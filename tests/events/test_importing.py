"""Past events come in once, however often their file is imported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import DAY, HOUR
from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import InputError
from feilun.events.importing import Importer, Mapped, import_rows
from feilun.records.record import IMPORTED
from feilun.records.schema import schemas_of
from feilun.testing.fakes import MemoryLog
from feilun.testing.records import START as NOW

MAPPED = Mapped(time="when", fields={"user_id": "customer", "item_id": "商品"}, available=HOUR)
PAST = NOW - 1_000 * DAY


def row(**columns):
    return {"customer": 7, "商品": 42, "city": "北京", "when": PAST, "unused": 1, **columns}


def importer(project, mapped=MAPPED):
    return Importer(project, "order_line", "orders", mapped)


def test_a_row_becomes_a_record_that_was_known_later(project):
    record = importer(project).record(row(price=1.5), NOW)
    assert (record.time, record.client_time) == (PAST, PAST)
    assert (record.available, record.received) == (PAST + HOUR, NOW)
    assert (record.source, record.subject, record.flags) == (
        "import:orders",
        "user_id=7",
        IMPORTED,
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_vector_of_numbers_that_are_not_finite_is_refused(project, number):
    seen = EventSpec("seen", 1, (FieldSpec("spot", "vector", dim=2),), None)
    rows = Importer(replace(project, events={"seen": seen}), "seen", "files", Mapped(time="when"))
    assert msgspec.msgpack.decode(rows.record({"when": PAST, "spot": [1, 2]}, NOW).body) == [[1, 2]]
    with pytest.raises(InputError, match=r"fields\.spot: .* not finite"):
        rows.record({"when": PAST, "spot": [1.0, number]}, NOW)


def test_the_schema_is_declared_before_the_first_row(project):
    log = MemoryLog()
    import_rows(importer(project), [], log, NOW)
    assert log.schemas() == schemas_of([project.events["order_line"]])


def test_the_same_file_twice_is_all_duplicates(project):
    log = MemoryLog()
    rows = [row(**{"商品": n // 2}) for n in range(10)]  # each line twice
    assert import_rows(importer(project), rows, log, NOW) == (10, 10, 0, 0, 0)
    assert import_rows(importer(project), rows, log, NOW + 99 * DAY) == (10, 0, 10, 0, 0)
    assert log.end() == 10


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 20))
def test_an_interrupted_import_is_completed_by_the_next(project, items, stop):
    rows = [row(**{"商品": item}) for item in items]
    log = MemoryLog()
    import_rows(importer(project), rows[:stop], log, NOW)
    import_rows(importer(project), rows, log, NOW)
    assert log.end() == len(rows)


def test_bad_rows_are_kept_and_cost_no_other(project):
    log = MemoryLog()
    rows = [
        row(),
        row(customer="seven"),
        row(customer=None),
        row(when="soon"),
        row(when=None),
        row(when=-1),
        row(price=float("nan")),
        row(city=None),
        row(**{"商品": 43}),
    ]
    assert import_rows(importer(project), rows, log, NOW) == (9, 2, 0, 7, 0)
    reasons = [bad.reason for bad in log.bad()]
    assert "fields.user_id" in reasons[0]
    assert "lacks the field 'user_id'" in reasons[1]
    assert reasons[2].startswith("when: 'soon'")
    assert "seven" in log.bad()[0].raw.decode()


@given(st.integers(-DAY, 9 * 365 * DAY))
def test_no_record_is_of_a_time_that_has_yet_to_come(project, ahead):
    log = MemoryLog()
    done = import_rows(importer(project), [row(), row(when=NOW + ahead)], log, NOW)
    assert all(record.time <= record.received for _, record in log.read(0))
    assert (done.accepted, done.bad) == ((1, 1) if ahead > 0 else (2, 0))
    assert [bad.reason.partition(":")[0] for bad in log.bad()] == ["when"] * done.bad


def test_what_had_yet_to_come_is_imported_when_it_has(project):
    log = MemoryLog()
    rows = [row(), row(when=NOW + DAY)]
    assert import_rows(importer(project), rows, log, NOW) == (2, 1, 0, 1, 0)
    assert import_rows(importer(project), rows, log, NOW + DAY) == (2, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2024-05-01T08:00:00", 1_714_521_600_000_000),  # in the project's zone, UTC+8
        ("2024-05-01 00:00:00+00:00", 1_714_521_600_000_000),
        ("2024-05-01", 1_714_492_800_000_000),
        (datetime(2024, 5, 1, 8), 1_714_521_600_000_000),
        (datetime(2024, 5, 1, tzinfo=UTC), 1_714_521_600_000_000),
        (1_714_521_600_000_000, 1_714_521_600_000_000),
        ("1714521600000000", 1_714_521_600_000_000),
    ],
)
def test_times_of_files(project, value, time):
    assert importer(project).record(row(when=value), NOW).time == time


def test_text_of_a_file_becomes_the_number_it_writes(project):
    texts = row(customer="7", **{"商品": "42"}, price="2.5", gift="true", city=1000)
    typed = row(price=2.5, gift=True, city="1000")
    assert importer(project).record(texts, NOW) == importer(project).record(typed, NOW)


def test_a_column_may_say_when_a_row_became_known(project):
    mapped = MAPPED._replace(available="known")
    assert importer(project, mapped).record(row(known=PAST + DAY), NOW).available == PAST + DAY
    with pytest.raises(InputError, match="before it happened"):
        importer(project, mapped).record(row(known=PAST - 1), NOW)


def test_a_column_may_name_rows(project):
    mapped = MAPPED._replace(id="line")
    assert importer(project, mapped).record(row(line=5), NOW).id == "5"
    with pytest.raises(InputError, match="no id"):
        importer(project, mapped).record(row(line=None), NOW)


def test_unknown_names_are_refused_at_once(project):
    with pytest.raises(InputError, match="order_line"):
        Importer(project, "orderline", "orders", MAPPED)
    with pytest.raises(InputError, match="no field"):
        importer(project, MAPPED._replace(fields={"user": "customer"}))
