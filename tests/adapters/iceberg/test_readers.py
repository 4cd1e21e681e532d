"""Other programs read the lake: DuckDB and Polars see the rows that were written."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feilun.adapters.iceberg import tables
from feilun.definitions.specs import FieldSpec
from feilun.testing.lake_conformance import VIEW, make_rows

LONGER = replace(VIEW, fields=(FieldSpec("item", "float"), FieldSpec("page", "str", True)))
ROWS = [(0, 0.0, None), (1, 1.0, None), (2, 0.5, "北京"), (3, 3.0, None)]


@pytest.fixture
def table(opened: Any) -> Any:
    """Write events whose shape has changed, and open their table as PyIceberg does."""
    lake = opened()
    lake.append(0, 2, [make_rows(VIEW, [0, 1])])
    lake.append(2, 4, [make_rows(LONGER, [2], item=[0.5], page=["北京"]), make_rows(VIEW, [3])])
    return lake._load("events.view")


def test_pyiceberg(table: Any) -> None:
    rows = table.scan(selected_fields=("_offset", "item", "page")).to_arrow().to_pylist()
    assert sorted((r["_offset"], r["item"], r["page"]) for r in rows) == ROWS
    assert table.scan("_time < '2024-10-04T01:30:00+00:00'").count() == 2


def test_duckdb_reads_the_files_of_a_snapshot(table: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    files = [file.file_path for file in tables.files_of(table, table.current_snapshot())]
    with duckdb.connect() as connection:
        connection.execute("SET autoinstall_known_extensions = false")
        rows = connection.execute(
            "SELECT _offset, item, page FROM read_parquet(?, union_by_name=true) ORDER BY _offset",
            [files],
        ).fetchall()
        days = connection.execute(
            "SELECT count(*) FROM read_parquet(?, union_by_name=true) WHERE _time >= '2024-10-04'",
            [files],
        ).fetchall()
    assert rows == ROWS
    assert days == [(4,)]


def test_polars(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    polars = pytest.importorskip("polars")
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    frame = polars.scan_iceberg(table).select("_offset", "item", "page").sort("_offset")
    assert frame.collect().rows() == ROWS


def test_a_catalogue_opened_from_outside_needs_nothing_of_feiluns(
    table: Any, tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "sys.modules['feilun'] = None\n"
        "from pyiceberg.catalog.sql import SqlCatalog\n"
        "catalog = SqlCatalog('feilun', uri='sqlite:///' + sys.argv[1] + '/catalog.db')\n"
        "print(catalog.load_table('events.view').scan().count())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lake")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "4"
