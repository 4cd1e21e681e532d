"""PyFlink: the windows of ``stream_fold`` as Flink SQL over a CSV file.

SQL runs in the Java process alone, which is PyFlink's fastest way: no event passes through Python.
One task slot; results go to the blackhole sink; no checkpoints are taken.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pyflink.table import EnvironmentSettings, TableEnvironment

from benchmarks.data import load
from benchmarks.protocol import serve, timed

_tables: list[TableEnvironment] = []
_NAMES = ("time", "user_id", "item_id", "category", "amount")


def prepare(folder: str, events: int) -> str:
    """Write the first ``events`` events where `run` reads them; return the path."""
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=folder)) / "events.csv"
    columns = load(folder)
    rows = np.column_stack([columns[name][:events] for name in _NAMES])
    np.savetxt(path, rows, fmt="%d", delimiter=",")
    return str(path)


def run(path: str, windows: list[dict[str, Any]], form: str) -> dict[str, float]:
    """Compute every window from the file and drop the results; no state is stored."""
    tables = _environment()
    _open(tables, path)
    statements = tables.create_statement_set()
    for place, window in enumerate(windows):
        columns = ", ".join(f"{key} BIGINT" for key in window["keys"])
        _drop(tables, f"sink_{place}")
        tables.execute_sql(
            f"CREATE TABLE sink_{place} ({columns}, `start` BIGINT, `value` BIGINT) "
            "WITH ('connector' = 'blackhole')"
        )
        statements.add_insert_sql(f"INSERT INTO sink_{place} {_query(window, form)}")
    return timed(lambda: statements.execute().wait(), _cpu)


def check(path: str, windows: list[dict[str, Any]], form: str) -> list[list[list[int]]]:
    """Return for each window its rows ``[*keys, start, value]``, sorted."""
    tables = _environment()
    _open(tables, path)
    found = []
    for window in windows:
        with tables.execute_sql(_query(window, form)).collect() as rows:
            found.append(sorted([int(value) for value in row] for row in rows))
    return found


def _environment() -> TableEnvironment:
    if not _tables:
        tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        configuration = tables.get_config()
        configuration.set("parallelism.default", "1")
        configuration.set("table.local-time-zone", "UTC")
        configuration.set("pipeline.object-reuse", "true")
        _tables.append(tables)
    return _tables[0]


def _open(tables: TableEnvironment, path: str) -> None:
    _drop(tables, "events")
    tables.execute_sql(
        "CREATE TABLE events (`time` BIGINT, user_id BIGINT, item_id BIGINT, category BIGINT, "
        "amount BIGINT, moment AS TO_TIMESTAMP_LTZ(`time` / 1000, 3), "
        "WATERMARK FOR moment AS moment) "
        f"WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{path}')"
    )


def _drop(tables: TableEnvironment, name: str) -> None:
    tables.execute_sql(f"DROP TABLE IF EXISTS {name}")


def _query(window: dict[str, Any], form: str) -> str:
    keys = ", ".join(window["keys"])
    value = "COUNT(*)" if window["value"] == "count" else "SUM(amount)"
    hop, length = (
        f"INTERVAL '{window[name] // 1_000_000}' SECOND(9)" for name in ("hop", "length")
    )
    table = "TABLE events, DESCRIPTOR(moment)"
    windows = f"TUMBLE({table}, {hop})" if form == "tiles" else f"HOP({table}, {hop}, {length})"
    start = "UNIX_TIMESTAMP(CAST(window_start AS STRING)) * 1000000"
    return (
        f"SELECT {keys}, {start}, {value} FROM TABLE({windows}) "  # noqa: S608
        f"GROUP BY {keys}, window_start, window_end"
    )


def _cpu() -> float:
    """Return the CPU seconds of this process and of its Java process."""
    me = psutil.Process(os.getpid())
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    serve({"prepare": prepare, "run": run, "check": check})
