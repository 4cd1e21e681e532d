"""The archiver: what the log has comes into the lake once, seldom, and reads back the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feilun.clock import DAY, MINUTE, ManualClock
from feilun.definitions.specs import EventSpec, FieldSpec, Project
from feilun.errors import ConfigError
from feilun.features import archive
from feilun.features.archive import (
    PREDICTION_TABLE,
    UNDECLARED_TABLE,
    UNREADABLE_TABLE,
    Archiver,
    RowReader,
    Waiting,
    history,
)
from feilun.features.frames import FrameDecoder
from feilun.ports.lake import ENVELOPE, Rows
from feilun.records.codec import encode_prediction
from feilun.records.erasure import Erasures
from feilun.records.record import IMPORTED, LATE, PREDICTION_SCHEMA, Prediction, Record
from feilun.records.schema import schemas_of
from feilun.testing.fakes import MemoryLog
from feilun.testing.lake_fakes import MemoryLake
from feilun.testing.records import START, make_record

CLICK = EventSpec(
    "click",
    1,
    (
        FieldSpec("item", "int"),
        FieldSpec("page", "str", optional=True),
        FieldSpec("taste", "vector", optional=True, dim=2),
    ),
    "user",
)
OLDER = replace(CLICK, fields=CLICK.fields[:2])
VIEW = EventSpec("view", 1, (FieldSpec("item", "float"),), None)
OLDER_VIEW = replace(VIEW, fields=(FieldSpec("item", "int"),))
PROJECT = Project("shop", "UTC", {}, {"click": CLICK, "view": VIEW}, {}, {}, {}, {})
PREDICTION = Prediction(
    "recommend", "ranker", 3, START, 7, {"user": 1}, "item", [8, 9], "c0ffee",
    np.arange(4, dtype="<f4").tobytes(), np.array([0.5, -1.0]).tobytes(), [9], ["late"], "r-1",
)  # fmt: skip


def filled(records: Iterable[Record], *, declared: bool = True) -> MemoryLog:
    log = MemoryLog()
    if declared:
        log.declare(schemas_of([CLICK, OLDER, VIEW, OLDER_VIEW]))
    log.append(list(records))
    return log


def clicks(count: int, **how: Any) -> list[Record]:
    return [
        make_record(f"id-{n}", n, "a", None, schema=CLICK.schema_id, **how) for n in range(count)
    ]


def tables(chunks: Iterable[Rows]) -> dict[str, list[dict[str, Any]]]:
    """Return rows by table, each a dictionary of what is present."""
    found: dict[str, list[dict[str, Any]]] = {}
    for rows in chunks:
        for place in range(len(rows)):
            row = {n: c.values[place] for n, c in rows.columns.items() if c.present[place]}
            found.setdefault(rows.table.name, []).append(row)
    return found


class Stopped(BaseException):
    """What a kill is here."""


class TestWaiting:
    def test_nothing_is_due_of_an_empty_log(self) -> None:
        clock = ManualClock(START)
        waiting = Waiting(MemoryLog(), clock)
        assert waiting.due(0) == 0
        clock.advance(15 * MINUTE)
        assert waiting.due(0) == 0

    def test_a_batch_is_due_when_its_oldest_record_has_waited(self) -> None:
        clock, log = ManualClock(START), filled(clicks(3, received=START))
        waiting = Waiting(log, clock)
        assert waiting.due(0) == 0
        clock.advance(15 * MINUTE - 1)
        assert waiting.due(0) == 0
        clock.advance(1)
        assert waiting.due(0) == 3
        assert waiting.due(3) == 0

    def test_a_restart_begins_no_wait_anew(self) -> None:
        log = filled(clicks(3, received=START))
        clock = ManualClock(START + 15 * MINUTE - 1)
        assert Waiting(log, clock).due(0) == 0
        clock.advance(1)
        assert Waiting(log, clock).due(0) == 3
        assert Waiting(log, clock).due(2) == 1

    def test_what_comes_later_waits_for_itself(self) -> None:
        clock, log = ManualClock(START + 15 * MINUTE), filled(clicks(3, received=START))
        waiting = Waiting(log, clock)
        assert waiting.due(0) == 3
        log.append([make_record("later", 1, "a", None, received=clock.now() + MINUTE)])
        clock.advance(16 * MINUTE - 1)
        assert waiting.due(3) == 0
        clock.advance(1)
        assert waiting.due(3) == 1

    @pytest.mark.parametrize("received", [START - 300 * DAY, START + DAY])
    def test_records_of_another_time_are_no_reason_for_many_small_batches(
        self, received: int
    ) -> None:
        """As a replay's, or those from before the clock was set back."""
        clock, log = ManualClock(START), filled(clicks(3, received=received))
        waiting, position, batches = Waiting(log, clock), 0, []
        for n in range(45 * 60):
            if taken := waiting.due(position):
                position += taken
                batches.append(taken)
            log.append([make_record(f"more-{n}", n, "a", None, received=received)])
            clock.advance(MINUTE // 60)
        assert batches == [3, 900, 900]

    def test_what_was_erased_holds_nothing_up(self) -> None:
        log = filled(clicks(3, received=START, subject="user_id=1"))
        erasures = Erasures.begun().adding(["user_id=1"], START + DAY)
        log.erase(erasures)
        assert [len(batch) for batch in log.read_batches(0)] == [0]
        assert Waiting(log, ManualClock(START)).due(0) == 3

    def test_a_batch_is_due_when_it_is_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waiting = Waiting(filled(clicks(3_000, received=START)), ManualClock(START))
        assert waiting.due(0) == 0
        monkeypatch.setattr(archive, "BATCH_BYTES", 50_000)
        count = waiting.due(0)
        assert 400 < count < 2_000
        assert waiting.due(3_000 - count // 2) == 0


class TestArchiver:
    def test_it_writes_what_is_due_and_waits_for_the_rest(self) -> None:
        clock, log, lake = ManualClock(START), filled(clicks(5, received=START)), MemoryLake()
        archiver = Archiver(log, lake, clock)
        assert archiver.run_once() == 0
        clock.advance(15 * MINUTE)
        assert archiver.run_once() == 5
        assert archiver.run_once() == 0
        assert archiver.position == lake.archived() == 5

    def test_all_of_a_long_log_goes_in_several_batches(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "BATCH_BYTES", 20_000)
        log, lake = filled(clicks(2_500)), MemoryLake()
        runs: list[tuple[int, int]] = []
        append = lake.append

        def noted(start: int, stop: int, chunks: Iterable[Rows]) -> int:
            runs.append((start, stop))
            return append(start, stop, chunks)

        monkeypatch.setattr(lake, "append", noted)
        assert Archiver(log, lake, ManualClock()).run_all() == 2_500
        assert len(runs) > 3
        assert [start for start, _ in runs] == [0, *(stop for _, stop in runs[:-1])]
        (frame,) = lake.frames(CLICK)
        assert sorted(frame.known.tolist()) == list(range(2_500))

    def test_two_archivers_write_each_record_once(self) -> None:
        log, lake = filled(clicks(10)), MemoryLake()
        first, second = (Archiver(log, lake, ManualClock()) for _ in range(2))
        assert first.run_all() == 10
        log.append([make_record("late", 1, None, None, schema=CLICK.schema_id)])
        assert second.run_all() == 11
        (frame,) = lake.frames(CLICK)
        assert sorted(frame.known.tolist()) == list(range(11))

    def test_one_that_is_stopped_while_it_reads_begins_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log, lake = filled(clicks(10)), MemoryLake()

        def stopped(*_arguments: Any) -> Any:
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(log, "read_batches", stopped)
            archiver = Archiver(log, lake, ManualClock())
            with pytest.raises(Stopped):
                archiver.run_all()
        assert archiver.position == lake.archived() == 0
        assert archiver.run_all() == 10

    def test_a_type_that_cannot_change_stops_it_where_it_is(self) -> None:
        log, lake = filled(clicks(2)), MemoryLake()
        Archiver(log, lake, ManualClock()).run_all()
        other = replace(CLICK, version=2, fields=(FieldSpec("item", "str"),))
        log.declare(schemas_of([other]))
        log.append([make_record("new", "a", schema=other.schema_id)])
        archiver = Archiver(log, lake, ManualClock())
        with pytest.raises(ConfigError, match="item"):
            archiver.run_all()
        assert archiver.position == lake.archived() == 2


class TestRows:
    def test_the_envelope_of_a_record(self) -> None:
        record = make_record(
            "id-1", 7, None, [0.5, 1.0], time=START, received=START + 5, subject="user=1",
            schema=CLICK.schema_id, flags=IMPORTED,
        )  # fmt: skip
        (row,) = tables(RowReader(filled([record])).read(0, 1))["events.click"]
        assert row.pop("taste").tolist() == [0.5, 1.0]
        assert row == {
            "_offset": 0, "_source": "web", "_id": "id-1", "_time": START, "_received": START + 5,
            "_client_time": START, "_available": START + 5, "_subject": "user=1",
            "_tie": np.uint64(record.tie).astype(np.int64), "_flags": IMPORTED,
            "_schema": CLICK.schema_id, "item": 7,
        }  # fmt: skip
        assert {field.name for field in ENVELOPE} <= set(row)

    def test_an_older_shape_keeps_its_own_columns(self) -> None:
        old = make_record("1", 7, "a", schema=OLDER.schema_id)
        (rows,) = RowReader(filled([old])).read(0, 1)
        assert [field.name for field in rows.table.fields] == ["item", "page"]

    def test_a_prediction(self) -> None:
        record = replace_body(make_record("1"), PREDICTION_SCHEMA, encode_prediction(PREDICTION))
        (row,) = tables(RowReader(filled([record])).read(0, 1))[PREDICTION_TABLE.name]
        assert row["vectors"].tolist() == [0.0, 1.0, 2.0, 3.0]
        assert row["scores"].tolist() == [0.5, -1.0]
        assert (row["capability"], row["version"], row["as_of"]) == ("recommend", 3, START)
        texts = ("keys", "items", "answer", "degraded", "request")
        assert [msgspec.json.decode(row[name]) for name in texts] == [
            {"user": 1}, [8, 9], [9], ["late"], {},
        ]  # fmt: skip

    def test_what_cannot_be_read_is_kept_as_it_is(self) -> None:
        records = [
            make_record("0", 1, None, None, schema=CLICK.schema_id),
            make_record("1", "not a number", None, None, schema=CLICK.schema_id),
            replace_body(make_record("2"), CLICK.schema_id, b"\xc1"),
            make_record("3", 5, schema="other.v1.00000000"),
            make_record("4", 5, schema="feilun.exposure.1"),
            replace_body(make_record("5"), PREDICTION_SCHEMA, b"\x90"),
        ]
        found = tables(RowReader(filled(records)).read(0, 6))
        at = {name: [row["_offset"] for row in rows] for name, rows in found.items()}
        assert at == {
            "events.click": [0],
            UNREADABLE_TABLE.name: [1, 2, 5],
            UNDECLARED_TABLE.name: [3],
            "feilun.exposure": [4],
        }
        bodies = [row["body"] for name in at if name != "events.click" for row in found[name]]
        assert sorted(bodies) == sorted(record.body for record in records[1:])

    def test_a_name_that_is_no_name_makes_no_table(self) -> None:
        records = [make_record("1", schema="feilun.../x.1"), make_record("2", schema="feilun.a")]
        assert list(tables(RowReader(filled(records)).read(0, 2))) == [UNDECLARED_TABLE.name]


def replace_body(record: Record, schema: str, body: bytes) -> Record:
    return msgspec.structs.replace(record, schema=schema, body=body)


@st.composite
def logs(draw: st.DrawFn) -> MemoryLog:
    """Make a log of several events and shapes, with late, absent and unreadable ones."""
    records = []
    for number in range(draw(st.integers(0, 20))):
        schema, *values = draw(
            st.sampled_from(
                [
                    (CLICK.schema_id, 2**63 - 1, "北京", [0.5, -0.0]),
                    (CLICK.schema_id, -5, None, None),
                    (OLDER.schema_id, 3, "a"),
                    (VIEW.schema_id, 0.25),
                    (OLDER_VIEW.schema_id, 4),
                    (CLICK.schema_id, "unreadable"),
                    ("gone.v1.00000000", 1),
                ]
            )
        )
        how = {"flags": draw(st.sampled_from([0, 0, LATE, IMPORTED]))}
        time = START + draw(st.integers(-3, 3))
        records.append(make_record(str(number), *values, schema=schema, time=time, **how))
    return filled(records)


def frame_rows(frames: Iterable[Any]) -> list[Any]:
    """Return the events of frames in the order of their offsets."""
    rows = [
        (
            int(frame.known[place]),
            int(frame.time[place]),
            int(frame.tie[place]),
            [
                (name, np.asarray(column.values[place]).tolist(), column.values.dtype)
                for name, column in frame.columns.items()
                if column.present[place]
            ],
        )
        for frame in frames
        for place in range(len(frame))
    ]
    return sorted(rows, key=lambda row: row[0])


@given(logs(), st.data())
def test_history_is_what_the_log_alone_tells(log: MemoryLog, data: st.DataObject) -> None:
    end = log.end()
    archived = data.draw(st.integers(0, end))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, end), st.integers(0, end))))
    without = data.draw(st.sets(st.integers(0, max(end - 1, 0)), max_size=3))
    lake = MemoryLake()
    lake.append(0, archived, RowReader(log).read(0, archived))
    alone = FrameDecoder(PROJECT, log.schemas()).decode(
        pair for pair in log.read(start, stop - start) if pair[0] not in without
    )
    for event in (CLICK, VIEW):
        both: Iterator[Any] = history(
            PROJECT, event, start, stop, log=log, lake=lake, without=without
        )
        only = [alone.frames[event.name]] if event.name in alone.frames else []
        assert frame_rows(both) == frame_rows(only)
