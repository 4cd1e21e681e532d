"""The exam of a ``Lake``: subclass ``LakeConformance`` and say how to open one."""

# ruff: noqa: D102  (a test's name is its sentence)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feilun.aggregation.frames import Column, EventFrame
from feilun.clock import DAY
from feilun.definitions.specs import EventSpec, FieldSpec
from feilun.errors import ConfigError, InputError, UnknownName
from feilun.ports.lake import Lake, Rows, event_table
from feilun.records.record import LATE
from feilun.testing.records import START

CLICK = EventSpec(
    "click",
    1,
    (
        FieldSpec("item", "int"),
        FieldSpec("page", "str", optional=True),
        FieldSpec("price", "float", optional=True),
        FieldSpec("again", "bool", optional=True),
        FieldSpec("taste", "vector", optional=True, dim=2),
    ),
    "user",
)
EVER = 2**62
"""Later than any time of a test."""
VIEW = EventSpec("view", 1, (FieldSpec("item", "int"),), "user")


def make_rows(
    event: EventSpec,
    offsets: Sequence[int],
    *,
    time: int = START,
    subject: str = "user=1",
    flags: int = 0,
    **values: Sequence[Any],
) -> Rows:
    """Return rows at ``offsets``, an hour apart from ``time`` on; None where a value is missing.

    A field that is not given holds the offsets if it is a number, and is missing otherwise.
    """
    count = len(offsets)
    at = np.array(offsets, np.int64)
    times = time + at * (DAY // 24)
    envelope: dict[str, Any] = {
        "_offset": at,
        "_source": np.full(count, "web", object),
        "_id": np.array([f"id-{offset}" for offset in offsets], object),
        "_time": times,
        "_received": times + 1,
        "_client_time": times - 1,
        "_available": times + 2,
        "_subject": np.full(count, subject, object),
        "_tie": at.astype(np.uint64).view(np.int64) - 2**62,
        "_flags": np.full(count, flags, np.int64),
        "_schema": np.full(count, event.schema_id, object),
    }
    columns = {name: Column(array, np.ones(count, np.bool_)) for name, array in envelope.items()}
    for field in event.fields:
        given: Sequence[Any] = values.get(
            field.name, at.tolist() if field.dtype in ("int", "float") else [None] * count
        )
        columns[field.name] = _column(field, given)
    return Rows(event_table(event), columns)


def _column(field: FieldSpec, values: Sequence[Any]) -> Column:
    fillers: dict[str, Any] = {"int": 0, "float": 0.0, "bool": False, "str": ""}
    types: dict[str, Any] = {"int": np.int64, "bool": np.bool_, "str": object}
    filler = fillers.get(field.dtype, [0.0] * field.dim)
    filled = [filler if value is None else value for value in values]
    present = np.array([value is not None for value in values], np.bool_)
    return Column(np.array(filled, types.get(field.dtype, np.float64)), present)


def rows_of(frames: Iterator[EventFrame]) -> dict[int, dict[str, Any]]:
    """Return what frames hold by ``known``: times, ties, and the values that are present."""
    found: dict[int, dict[str, Any]] = {}
    for frame in frames:
        for place, known in enumerate(frame.known.tolist()):
            assert known not in found
            found[known] = {
                "time": int(frame.time[place]),
                "tie": int(frame.tie[place]),
                **{
                    name: np.asarray(column.values[place]).tolist()
                    for name, column in frame.columns.items()
                    if column.present[place]
                },
            }
    return found


class LakeConformance:
    """What every ``Lake`` must do."""

    def open(self, folder: Path) -> Lake:
        """Open the lake of ``folder``."""
        raise NotImplementedError

    @pytest.fixture
    def lake(self, tmp_path: Path) -> Iterator[Lake]:
        """Open a lake for one test."""
        lake = self.open(tmp_path / "lake")
        yield lake
        lake.close()

    def test_an_empty_lake(self, lake: Lake) -> None:
        assert lake.archived() == 0
        assert lake.tables() == []
        assert list(lake.frames(CLICK)) == []
        assert lake.name_snapshot("none") == 0
        assert list(lake.frames(CLICK, snapshot="none")) == []
        assert lake.delete_subject("user=1", EVER) == (0, ())
        lake.forget_snapshot("none")
        lake.maintain(START)

    def test_what_was_written_comes_back(self, lake: Lake) -> None:
        rows = make_rows(
            CLICK,
            [0, 1, 2],
            page=["a", None, "北京"],
            price=[0.5, -0.0, None],
            again=[True, False, None],
            taste=[[1.0, 2.0], None, [3.0, 4.0]],
        )
        assert lake.append(0, 3, [rows]) == 3
        assert lake.archived() == 3
        tie = 2**64 - 2**62
        hour = DAY // 24
        assert rows_of(lake.frames(CLICK)) == {
            0: {"time": START, "tie": tie, "item": 0, "page": "a", "price": 0.5, "again": True,
                "taste": [1.0, 2.0]},
            1: {"time": START + hour, "tie": tie + 1, "item": 1, "price": -0.0, "again": False},
            2: {"time": START + 2 * hour, "tie": tie + 2, "item": 2, "page": "北京",
                "taste": [3.0, 4.0]},
        }  # fmt: skip

    def test_the_ends_of_numbers(self, lake: Lake) -> None:
        ends = [2**63 - 1, -(2**63)]
        lake.append(0, 2, [make_rows(CLICK, [0, 1], item=ends, price=[5e-324, float("inf")])])
        found = rows_of(lake.frames(CLICK))
        assert [found[n]["item"] for n in (0, 1)] == ends
        assert [found[n]["price"] for n in (0, 1)] == [5e-324, float("inf")]

    def test_a_range_and_some_fields_and_when_it_became_known(self, lake: Lake) -> None:
        lake.append(0, 40, [make_rows(CLICK, range(40))])
        lake.append(40, 80, [make_rows(CLICK, range(40, 80))])
        found = rows_of(lake.frames(CLICK, 30, 50, fields=["item"]))
        assert sorted(found) == list(range(30, 50))
        assert all(row.keys() == {"time", "tie", "item"} for row in found.values())
        known = rows_of(lake.frames(CLICK, 79, known="available"))
        assert sorted(known) == [START + 79 * (DAY // 24) + 2]

    def test_late_events_are_kept_but_not_read(self, lake: Lake) -> None:
        lake.append(0, 3, [make_rows(CLICK, [0, 2]), make_rows(CLICK, [1], flags=LATE)])
        assert sorted(rows_of(lake.frames(CLICK))) == [0, 2]
        (status,) = lake.tables()
        assert (status.name, status.rows, status.archived) == ("events.click", 3, 3)

    def test_each_event_has_its_table(self, lake: Lake) -> None:
        lake.append(0, 4, [make_rows(VIEW, [0, 3]), make_rows(CLICK, [1, 2])])
        assert sorted(rows_of(lake.frames(CLICK))) == [1, 2]
        assert sorted(rows_of(lake.frames(VIEW))) == [0, 3]
        assert [status.name for status in lake.tables()] == ["events.click", "events.view"]

    def test_nothing_is_written_twice(self, lake: Lake) -> None:
        assert lake.append(0, 10, [make_rows(CLICK, range(10))]) == 10
        assert lake.append(0, 10, [make_rows(CLICK, range(10))]) == 0
        assert lake.append(5, 15, [make_rows(CLICK, range(5, 15))]) == 5
        assert sorted(rows_of(lake.frames(CLICK))) == list(range(15))
        assert lake.archived() == 15

    def test_a_write_that_fails_on_the_way_changes_nothing(self, lake: Lake) -> None:
        def chunks() -> Iterator[Rows]:
            yield make_rows(CLICK, [0, 1])
            raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            lake.append(0, 4, chunks())
        assert lake.archived() == 0
        assert list(lake.frames(CLICK)) == []
        assert lake.append(0, 4, [make_rows(CLICK, range(4))]) == 4

    def test_rows_outside_their_run_are_refused(self, lake: Lake) -> None:
        with pytest.raises(InputError):
            lake.append(0, 4, [make_rows(CLICK, [4])])
        with pytest.raises(InputError):
            lake.append(4, 3, [])

    def test_a_new_optional_field(self, lake: Lake) -> None:
        lake.append(0, 1, [make_rows(VIEW, [0])])
        longer = replace(VIEW, fields=(*VIEW.fields, FieldSpec("page", "str", optional=True)))
        lake.append(1, 2, [make_rows(longer, [1], page=["a"])])
        lake.append(2, 3, [make_rows(VIEW, [2])])
        found = rows_of(lake.frames(longer))
        assert [found[n].get("page") for n in range(3)] == [None, "a", None]
        assert [found[n]["item"] for n in range(3)] == [0, 1, 2]

    def test_a_field_that_no_row_has_yet(self, lake: Lake) -> None:
        lake.append(0, 1, [make_rows(VIEW, [0])])
        fields = [FieldSpec("page", "str", True), FieldSpec("taste", "vector", True, 2)]
        longer = replace(VIEW, fields=(*VIEW.fields, *fields))
        (frame,) = lake.frames(longer)
        assert not frame.columns["page"].present.any()
        assert frame.columns["taste"].values.shape == (1, 2)

    def test_an_int_becomes_a_float(self, lake: Lake) -> None:
        lake.append(0, 2, [make_rows(VIEW, [0, 1])])
        assert lake.name_snapshot("before") == 2
        wider = replace(VIEW, fields=(FieldSpec("item", "float"),))
        lake.append(2, 4, [make_rows(wider, [2], item=[0.5]), make_rows(VIEW, [3])])
        found = rows_of(lake.frames(wider))
        assert [found[n]["item"] for n in range(4)] == [0.0, 1.0, 0.5, 3.0]
        before = rows_of(lake.frames(wider, snapshot="before"))
        assert [before[n]["item"] for n in range(2)] == [0.0, 1.0]
        with pytest.raises(ConfigError, match="item"):
            list(lake.frames(VIEW))

    def test_any_other_change_is_refused_and_nothing_is_written(self, lake: Lake) -> None:
        lake.append(0, 1, [make_rows(VIEW, [0])])
        other = replace(VIEW, fields=(FieldSpec("item", "str"),))
        with pytest.raises(ConfigError, match="item"):
            lake.append(1, 2, [make_rows(other, [1], item=["a"])])
        assert lake.archived() == 1
        assert sorted(rows_of(lake.frames(VIEW))) == [0]

    def test_a_named_snapshot_stays_what_it_was(self, lake: Lake) -> None:
        lake.append(0, 10, [make_rows(CLICK, range(10))])
        assert lake.name_snapshot("train/1") == 10
        lake.append(10, 20, [make_rows(CLICK, range(10, 20)), make_rows(VIEW, [10])])
        assert lake.name_snapshot("train/1") == 10
        lake.maintain(START + 100 * DAY)
        assert sorted(rows_of(lake.frames(CLICK, snapshot="train/1"))) == list(range(10))
        assert list(lake.frames(VIEW, snapshot="train/1")) == []
        assert len(rows_of(lake.frames(CLICK))) == 20
        lake.forget_snapshot("train/1")
        with pytest.raises(UnknownName):
            list(lake.frames(CLICK, snapshot="train/1"))

    def test_upkeep_changes_no_row(self, lake: Lake) -> None:
        for at in range(0, 30, 3):
            lake.append(at, at + 3, [make_rows(CLICK, range(at, at + 3))])
        before = rows_of(lake.frames(CLICK))
        lake.maintain(START + 100 * DAY)
        assert rows_of(lake.frames(CLICK)) == before
        assert lake.archived() == 30
        assert lake.append(27, 31, [make_rows(CLICK, range(27, 31))]) == 1

    def test_a_subject_goes_from_every_table_and_snapshot(self, lake: Lake) -> None:
        lake.append(0, 4, [make_rows(CLICK, range(4)), make_rows(VIEW, [], subject="user=2")])
        lake.append(4, 8, [make_rows(CLICK, range(4, 7), subject="user=2")])
        lake.name_snapshot("train/1")
        lake.append(8, 12, [make_rows(VIEW, range(8, 12), subject="user=2")])
        lake.name_snapshot("train/2")
        assert lake.delete_subject("user=2", EVER) == (7, ("train/1", "train/2"))
        assert sorted(rows_of(lake.frames(CLICK))) == list(range(4))
        assert list(lake.frames(VIEW)) == []
        for name in ("train/1", "train/2"):
            assert sorted(rows_of(lake.frames(CLICK, snapshot=name))) == list(range(4))
            assert list(lake.frames(VIEW, snapshot=name)) == []
        assert lake.archived() == 12
        assert lake.delete_subject("user=2", EVER) == (0, ())
        assert set(lake.subjects()) == {"user=1"}
        assert lake.append(12, 13, [make_rows(VIEW, [12])]) == 1

    def test_only_what_was_before_a_moment_is_erased(self, lake: Lake) -> None:
        lake.append(0, 2, [make_rows(CLICK, [0, 1], time=START)])
        lake.append(2, 3, [make_rows(CLICK, [2], time=START + DAY)])
        assert lake.delete_subject("user=1", START + DAY).rows == 2
        assert set(lake.subjects()) == {"user=1"}
        assert sorted(rows_of(lake.frames(CLICK))) == [2]
