"""Pathway: the windows of ``stream_fold`` as one static run over a CSV file, its fastest source."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pathway as pw
from pathway.internals.parse_graph import G

from benchmarks.data import load
from benchmarks.protocol import serve, timed


class _Event(pw.Schema):
    time: int
    user_id: int
    item_id: int
    category: int
    amount: int


def prepare(folder: str, events: int) -> str:
    """Write the first ``events`` events where `run` reads them; return the path."""
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=folder)) / "events.csv"
    pd.DataFrame(load(folder)).head(events).to_csv(path, index=False)
    return str(path)


def run(path: str, windows: list[dict[str, Any]], form: str) -> dict[str, float]:
    """Compute every window from the file and drop the results; no state is stored."""
    G.clear()
    for table in _tables(path, windows, form):
        pw.io.null.write(table)
    return timed(lambda: pw.run(monitoring_level=pw.MonitoringLevel.NONE))


def check(path: str, windows: list[dict[str, Any]], form: str) -> list[list[list[int]]]:
    """Return for each window its rows ``[*keys, start, value]``, sorted."""
    G.clear()
    found = []
    for window, table in zip(windows, _tables(path, windows, form), strict=True):
        rows = pw.debug.table_to_pandas(table, include_id=False)[
            [*window["keys"], "start", "value"]
        ]
        found.append(sorted(rows.astype(int).values.tolist()))
    return found


def _tables(path: str, windows: list[dict[str, Any]], form: str) -> list[pw.Table]:
    events = pw.io.csv.read(path, schema=_Event, mode="static")
    return [_FORMS[form](events, **window) for window in windows]


def _tiles(events: pw.Table, keys: list[str], hop: int, length: int, value: str) -> pw.Table:  # noqa: ARG001
    """Group by key and tile: the same as tumbling windows of one hop, and faster here."""
    columns = [events[key] for key in keys]
    tiled = events.select(*columns, amount=events.amount, start=events.time // hop * hop)
    columns = [tiled[key] for key in keys]
    reducer = pw.reducers.count() if value == "count" else pw.reducers.sum(tiled.amount)
    return tiled.groupby(*columns, tiled.start).reduce(*columns, tiled.start, value=reducer)


def _sliding(events: pw.Table, keys: list[str], hop: int, length: int, value: str) -> pw.Table:
    """Return every sliding window in full."""
    of_key = events.windowby(
        events.time,
        window=pw.temporal.sliding(duration=length, hop=hop),
        instance=pw.make_tuple(*[events[key] for key in keys]),
    )
    reducer = pw.reducers.count() if value == "count" else pw.reducers.sum(pw.this.amount)
    rows = of_key.reduce(key=pw.this._pw_instance, start=pw.this._pw_window_start, value=reducer)
    parts = {name: pw.unwrap(rows.key[place]) for place, name in enumerate(keys)}
    return rows.select(start=rows.start, value=rows.value, **parts)


_FORMS = {"tiles": _tiles, "sliding": _sliding}

if __name__ == "__main__":
    logging.disable(logging.INFO)
    serve({"prepare": prepare, "run": run, "check": check})
