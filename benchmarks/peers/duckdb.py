"""DuckDB: the training set as SQL written by hand, over tables in memory.

Each query row is joined with its user's events of the longest window, and every shorter window is
a filter of the same join. Windows begin at a whole hop and are half-open, as Feilun's are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.data import load
from benchmarks.protocol import serve, timed

_tables: dict[str, Any] = {}
_AGGREGATES = {
    "count": "count(e.time) FILTER ({inside})",
    "sum": "coalesce(sum(e.amount) FILTER ({inside}), 0)",
    "mean": "avg(e.amount) FILTER ({inside})",
    "min": "min(e.amount) FILTER ({inside})",
    "max": "max(e.amount) FILTER ({inside})",
}


def open_tables(data: str, spine: str) -> None:
    """Load events and queries into DuckDB's own tables."""
    connection = _tables["connection"] = duckdb.connect()
    for name, folder in (("events", data), ("queries", spine)):
        columns = pa.table(load(folder))  # found by its name in the statement below
        assert len(columns)
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM columns")  # noqa: S608
    connection.execute(
        "CREATE OR REPLACE TABLE queries AS SELECT row_number() OVER () - 1 AS row, * FROM queries"
    )


def training_set(windows: list[list[Any]], out: str) -> dict[str, float]:
    """Compute the features; write one ``.npy`` file each. DuckDB uses every core.

    Parameters
    ----------
    windows : list of [name, length, hop]
        In µs.
    out : str
        Where the files go.
    """
    connection = _tables["connection"]
    sql = _sql(windows)
    found: list[dict[str, Any]] = []
    spent = timed(lambda: found.append(connection.execute(sql).fetchnumpy()))
    order = np.argsort(found[0].pop("row"))
    for name, values in found[0].items():
        column = np.ma.filled(np.ma.asarray(values, np.float64), np.nan)
        np.save(Path(out) / f"{name}.npy", column[order])
    return spent


def _sql(windows: list[list[Any]]) -> str:
    starts = ", ".join(
        f"(as_of - {length}) // {hop} * {hop} AS start_{name}" for name, length, hop in windows
    )
    longest = max(windows, key=lambda window: window[1])[0]
    features = ", ".join(
        f"{aggregate.format(inside=f'e.time >= q.start_{name}')} AS {kind}_{name}"
        for name, _, _ in windows
        for kind, aggregate in _AGGREGATES.items()
    )
    return (
        f"WITH q AS (SELECT *, {starts} FROM queries) "  # noqa: S608
        f"SELECT q.row, {features} FROM q LEFT JOIN events e ON e.user_id = q.user_id "
        f"AND e.time < q.as_of AND e.time >= q.start_{longest} GROUP BY q.row"
    )


if __name__ == "__main__":
    serve({"open_tables": open_tables, "training_set": training_set})
