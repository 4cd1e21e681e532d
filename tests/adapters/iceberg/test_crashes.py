"""A lake is stopped at every step of everything it does, and goes on as if nothing had been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from feilun.adapters.iceberg import files, upkeep
from feilun.adapters.iceberg.lake import IcebergLake
from feilun.clock import DAY, SystemClock
from feilun.definitions.specs import FieldSpec
from feilun.testing.lake_conformance import CLICK, EVER, VIEW, make_rows, rows_of

NOW = SystemClock().now() + 3 * DAY
"""A time at which everything written here is old: Iceberg dates snapshots by the machine."""


class Killed(BaseException):
    """What a kill is here: nothing catches it but what cleans up."""


class Steps:
    """Counts the steps that change something on the disk; stops after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
        self.left = stop_at
        for owner, name in (
            (SqlCatalog, "commit_table"),
            (SqlCatalog, "create_table"),
            (SqlCatalog, "update_namespace_properties"),
            (files, "_write_one"),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            self._step()
            return result

        return counted

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def stop_everywhere(
    folder: Path, work: Callable[[IcebergLake], None], check: Callable[[IcebergLake], None]
) -> int:
    """Run ``work`` from the same beginning, stopped at its first step, its second, …"""
    beginning = folder.with_name("beginning")
    shutil.copytree(folder, beginning)
    stops = 0
    while True:
        shutil.rmtree(folder)
        shutil.copytree(beginning, folder)
        stops += 1
        lake = IcebergLake(folder)
        try:
            with pytest.MonkeyPatch.context() as monkeypatch:
                Steps(monkeypatch, stops)
                work(lake)
        except Killed:
            pass
        else:
            return stops - 1
        finally:
            lake.close()
        lake = IcebergLake(folder)
        try:
            check(lake)
        finally:
            lake.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    lake = IcebergLake(folder)
    for at in (0, 3):
        rows = [make_rows(CLICK, range(at, at + 2)), make_rows(VIEW, [at + 2], subject="user=2")]
        lake.append(at, at + 3, rows)
        if at == 0:
            lake.name_snapshot("train/1")
    lake.close()
    return folder


def test_an_append_is_whole_or_not_at_all_for_each_table(folder: Path) -> None:
    longer = replace(VIEW, fields=(FieldSpec("item", "float"), FieldSpec("page", "str", True)))

    def append(lake: IcebergLake) -> None:
        start = lake.archived()
        lake.append(start, 9, [make_rows(CLICK, [6, 8]), make_rows(longer, [7])])

    def check(lake: IcebergLake) -> None:
        if lake.archived() < 9:
            append(lake)
        assert lake.archived() == 9
        assert sorted(rows_of(lake.frames(CLICK))) == [0, 1, 3, 4, 6, 8]
        assert sorted(rows_of(lake.frames(longer))) == [2, 5, 7]

    assert stop_everywhere(folder, append, check) > 5


def test_a_name_means_one_state_of_all_tables_or_nothing(folder: Path) -> None:
    def work(lake: IcebergLake) -> None:
        assert lake.name_snapshot("train/2") == 6

    def check(lake: IcebergLake) -> None:
        lake.append(6, 8, [make_rows(CLICK, [6]), make_rows(VIEW, [7])])
        archived = lake.name_snapshot("train/2")
        found = [sorted(rows_of(lake.frames(one, snapshot="train/2"))) for one in (CLICK, VIEW)]
        whole = {6: [[0, 1, 3, 4], [2, 5]], 8: [[0, 1, 3, 4, 6], [2, 5, 7]]}
        assert found == whole[archived]

    assert stop_everywhere(folder, work, check) >= 3


def test_upkeep_may_stop_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "FRAGMENTS", 2)
    lake = IcebergLake(folder)
    before = rows_of(lake.frames(CLICK)), rows_of(lake.frames(VIEW))
    lake.close()

    def work(lake: IcebergLake) -> None:
        assert lake.maintain(NOW).expired > 0

    def check(lake: IcebergLake) -> None:
        assert (rows_of(lake.frames(CLICK)), rows_of(lake.frames(VIEW))) == before
        assert sorted(rows_of(lake.frames(CLICK, snapshot="train/1"))) == [0, 1]
        lake.maintain(NOW)
        assert (rows_of(lake.frames(CLICK)), rows_of(lake.frames(VIEW))) == before
        assert lake.maintain(NOW).removed == 0  # what a stop left behind is gone already

    assert stop_everywhere(folder, work, check) >= 4


def test_an_erasure_may_stop_anywhere_and_is_done_by_the_next(folder: Path) -> None:
    def work(lake: IcebergLake) -> None:
        assert lake.delete_subject("user=2", EVER) == (2, ("train/1",))

    def check(lake: IcebergLake) -> None:
        lake.delete_subject("user=2", EVER)
        assert list(lake.frames(VIEW)) == []
        assert list(lake.frames(VIEW, snapshot="train/1")) == []
        assert sorted(rows_of(lake.frames(CLICK))) == [0, 1, 3, 4]
        assert sorted(rows_of(lake.frames(CLICK, snapshot="train/1"))) == [0, 1]
        assert lake.archived() == 6
        assert not list((folder / "events/view/data").glob("*/*"))

    assert stop_everywhere(folder, work, check) >= 4
