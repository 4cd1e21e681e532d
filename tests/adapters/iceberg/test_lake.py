"""What only the Iceberg lake does: files, snapshots, upkeep, erasure to the byte."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from feilun.adapters.iceberg import files, tables, upkeep
from feilun.adapters.iceberg.lake import IcebergLake
from feilun.aggregation.frames import Column
from feilun.clock import DAY, HOUR
from feilun.errors import ConfigError, Unavailable
from feilun.ports.lake import LakeField, LakeTable, Rows
from feilun.testing.lake_conformance import CLICK, EVER, START, VIEW, make_rows, rows_of

MARKER = "wei-xiaobao"


def real_now() -> int:
    """Return the machine's time: Iceberg dates snapshots by it."""
    return time.time_ns() // 1_000


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


def test_a_day_is_a_partition_and_its_files_are_sorted_by_time(opened: Any, tmp_path: Path) -> None:
    lake = opened()
    shuffled = np.random.default_rng(3).permutation(60).tolist()
    lake.append(0, 60, [make_rows(CLICK, shuffled)])
    found = data_files(tmp_path)
    assert [path.parent.name for path in found] == [
        "_day=2024-10-04",
        "_day=2024-10-05",
        "_day=2024-10-06",
    ]
    for path in found:
        times = pq.read_table(path).column("_time").to_pylist()
        assert times == sorted(times)


def test_closed_days_become_one_file_each_and_open_ones_stay(opened: Any, tmp_path: Path) -> None:
    lake = opened()
    for at in range(0, 40, 5):
        lake.append(at, at + 5, [make_rows(CLICK, range(at, at + 5))])
    before = rows_of(lake.frames(CLICK))
    done = lake.maintain(START + DAY + HOUR)
    assert done.compacted == 4
    (status,) = lake.tables()
    assert status.files == 1 + 4
    assert rows_of(lake.frames(CLICK)) == before
    assert lake.maintain(START + DAY + HOUR).compacted == 0
    lake.maintain(real_now() + upkeep.KEPT + HOUR)
    assert len(data_files(tmp_path)) == 2


def test_no_more_rows_are_compacted_at_once_than_a_file_may_have(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_ROWS", 8)
    lake = opened()
    for at in range(0, 24, 3):
        lake.append(at, at + 3, [make_rows(CLICK, range(at, at + 3))])
    read: list[int] = []
    whole = files.read

    def counted(*arguments: Any) -> Any:
        rows = whole(*arguments)
        read.append(rows.num_rows)
        return rows

    monkeypatch.setattr(files, "read", counted)
    lake.maintain(START + 2 * DAY)
    (status,) = lake.tables()
    assert status.files == 4
    assert read == [3] * 8
    assert len(rows_of(lake.frames(CLICK))) == 24


def test_snapshots_go_after_48_hours_unless_named_and_their_files_with_them(
    opened: Any, tmp_path: Path
) -> None:
    lake = opened()
    for at in range(4):
        lake.append(at, at + 1, [make_rows(CLICK, [at])])
        if at == 1:
            lake.name_snapshot("train/1")
    now = real_now()
    assert lake.maintain(now + upkeep.KEPT - HOUR).expired == 0
    done = lake.maintain(now + upkeep.KEPT + HOUR)
    assert done.expired == 3 and done.removed > 0
    (status,) = lake.tables()
    assert status.snapshots == 2
    assert sorted(rows_of(lake.frames(CLICK, snapshot="train/1"))) == [0, 1]
    assert len(data_files(tmp_path)) == 1 + 2
    lake.forget_snapshot("train/1")
    lake.maintain(now + upkeep.KEPT + HOUR)
    assert len(data_files(tmp_path)) == 1
    assert sorted(rows_of(lake.frames(CLICK))) == [0, 1, 2, 3]


def test_many_young_snapshots_are_too_many(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "KEPT_MOST", 2)
    lake = opened()
    for at in range(5):
        lake.append(at, at + 1, [make_rows(CLICK, [at])])
    assert lake.maintain(START).expired == 2
    assert len(rows_of(lake.frames(CLICK))) == 5


def test_metadata_is_trimmed(opened: Any, tmp_path: Path) -> None:
    lake = opened()
    for at in range(10):
        lake.append(at, at + 1, [make_rows(CLICK, [at])])
    assert len(list(tmp_path.rglob("*.metadata.json"))) == 3
    lake.maintain(real_now() + upkeep.KEPT + HOUR)
    assert len(list(tmp_path.rglob("*.avro"))) < 10


def test_the_manifests_tell_nobodys_values(opened: Any, tmp_path: Path) -> None:
    lake = opened()
    lake.append(0, 1, [make_rows(CLICK, [0], page=[MARKER], subject=f"user={MARKER}")])
    table = lake._tables()[0]
    (file,) = tables.files_of(table, table.current_snapshot())
    assert sorted(file.lower_bounds) == sorted(file.upper_bounds) == [1, 4]


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write everything uncompressed, so that bytes can be searched for."""
    monkeypatch.setattr(files, "COMPRESSION", "none")
    monkeypatch.setitem(tables._PROPERTIES, "write.avro.compression-codec", "null")


def files_with(folder: Path, marker: str) -> list[str]:
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and marker.encode() in path.read_bytes()
    ]


def test_no_byte_of_a_subject_stays_in_any_file(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(monkeypatch)
    lake = opened()
    subject = f"user={MARKER}"
    bodies = LakeTable("feilun.other", (LakeField("body", "bytes"),))

    def other(at: int) -> Rows:
        columns = dict(make_rows(VIEW, [at], subject=subject).columns)
        body = np.array([f"<{MARKER}>".encode()], object)
        columns["body"] = Column(body, np.ones(1, np.bool_))
        del columns["item"]
        return Rows(bodies, columns)

    for at in range(0, 15, 3):
        rows = [
            make_rows(CLICK, [at], page=["others"]),
            make_rows(CLICK, [at + 1], page=[MARKER], subject=subject),
            other(at + 2),
        ]
        lake.append(at, at + 3, rows)
        if at in (3, 9):
            lake.name_snapshot(f"train/{at}")
    lake.maintain(START + DAY + HOUR)
    (tmp_path / "lake/events/click/data/stray.parquet").write_bytes(MARKER.encode())
    assert len(files_with(tmp_path, MARKER)) > 5
    assert lake.delete_subject(subject, EVER) == (10, ("train/3", "train/9"))
    assert files_with(tmp_path, MARKER) == []
    assert sorted(rows_of(lake.frames(CLICK))) == list(range(0, 15, 3))
    assert sorted(rows_of(lake.frames(CLICK, snapshot="train/3"))) == [0, 3]


def test_only_files_that_hold_the_subject_are_written_anew(opened: Any, tmp_path: Path) -> None:
    lake = opened()
    lake.append(0, 10, [make_rows(CLICK, range(10))])
    kept = data_files(tmp_path)
    lake.append(10, 20, [make_rows(CLICK, range(10, 20), subject="user=2")])
    lake.delete_subject("user=2", EVER)
    assert data_files(tmp_path) == kept


def test_an_erasure_after_a_column_became_float_keeps_old_snapshots_readable(opened: Any) -> None:
    from dataclasses import replace

    from feilun.definitions.specs import FieldSpec

    lake = opened()
    rows = [make_rows(VIEW, [0, 1]), make_rows(VIEW, [2], subject="user=2")]
    lake.append(0, 2, rows[:1])
    lake.append(2, 3, rows[1:])
    lake.name_snapshot("train/1")
    wider = replace(VIEW, fields=(FieldSpec("item", "float"),))
    lake.append(3, 4, [make_rows(wider, [3], item=[0.5])])
    assert lake.delete_subject("user=2", EVER).names == ("train/1",)
    table = lake._load("events.view")
    # As other programs see it: by the ids of columns, not by their names.
    seen = table.scan(snapshot_id=table.snapshot_by_name("train/1").snapshot_id).to_arrow()
    assert sorted(seen.column("item").to_pylist()) == [0.0, 1.0]


def test_a_reader_whose_files_went_is_told_to_try_again(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = opened()
    lake.append(0, 1, [make_rows(CLICK, [0])])
    frames = lake.frames(CLICK)
    files_of = tables.files_of

    def late(*arguments: Any) -> Any:
        found = files_of(*arguments)
        for path in data_files(tmp_path):
            path.unlink()
        return found

    monkeypatch.setattr(tables, "files_of", late)
    with pytest.raises(Unavailable, match="went away"):
        list(frames)


def test_a_lake_that_was_moved_says_so(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path / "here")
    lake.append(0, 1, [make_rows(CLICK, [0])])
    lake.close()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = IcebergLake(tmp_path / "there")
    with pytest.raises(ConfigError, match="moved"):
        moved.archived()
    moved.close()


def test_a_lake_of_a_newer_format_is_refused(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tables._PROPERTIES, tables.FORMAT, "2")
    lake = opened()
    lake.append(0, 1, [make_rows(CLICK, [0])])
    with pytest.raises(ConfigError, match="format 2"):
        lake.archived()


def test_two_writers_wait_for_each_other(opened: Callable[[], Any]) -> None:
    import threading

    first, second = opened(), opened()
    began, may_end = threading.Event(), threading.Event()

    def slowly() -> Iterator[Rows]:
        yield make_rows(CLICK, [0])
        began.set()
        assert may_end.wait(30)

    writer = threading.Thread(target=first.append, args=(0, 2, slowly()))
    writer.start()
    assert began.wait(30)
    other = threading.Thread(target=second.append, args=(0, 3, [make_rows(CLICK, range(3))]))
    other.start()
    other.join(0.2)
    assert other.is_alive()
    may_end.set()
    writer.join(30)
    other.join(30)
    assert sorted(rows_of(second.frames(CLICK))) == [0, 2]
