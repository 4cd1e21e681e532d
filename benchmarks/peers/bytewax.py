"""Bytewax: the windows of ``stream_fold`` over events that lie ready in memory.

In the form that was fastest when tried: one batch of all events, folded in any order, with every
window closed at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.data import load
from benchmarks.protocol import serve, timed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = timedelta(days=7)
"""Windows then close when the input ends: closing them along the way is several times slower."""
_events: list[dict[str, Any]] = []


class _NullPartition(StatelessSinkPartition[Any]):
    def write_batch(self, items: list[Any]) -> None:
        """Drop the results."""


class _NullSink(DynamicSink[Any]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _NullPartition:  # noqa: ARG002
        return _NullPartition()


def prepare(folder: str, events: int) -> str:
    """Take the first ``events`` events into memory, times as Bytewax wants them."""
    columns = {name: values[:events].tolist() for name, values in load(folder).items()}
    times = [_EPOCH + timedelta(microseconds=time) for time in columns["time"]]
    columns["when"] = times
    _events[:] = [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    return folder


def run(path: str, windows: list[dict[str, Any]], form: str) -> dict[str, float]:  # noqa: ARG001
    """Compute every window and drop the results; no state is stored."""
    flow = _flow(windows, form, [_NullSink() for _ in windows])
    return timed(lambda: run_main(flow))


def check(path: str, windows: list[dict[str, Any]], form: str) -> list[list[list[int]]]:  # noqa: ARG001
    """Return for each window its rows ``[*keys, start, value]``, sorted."""
    found: list[list[Any]] = [[] for _ in windows]
    run_main(_flow(windows, form, [TestingSink(rows) for rows in found]))
    return [
        sorted(
            [*map(int, key.split()), number * window["hop"], value] for key, (number, value) in rows
        )
        for window, rows in zip(windows, found, strict=True)
    ]


def _flow(windows: list[dict[str, Any]], form: str, sinks: list[Any]) -> Dataflow:
    flow = Dataflow("stream_fold")
    events = op.input("events", flow, TestingSource(_events, batch_size=len(_events)))
    clock = windowing.EventClock(
        ts_getter=lambda event: event["when"], wait_for_system_duration=_LATEST
    )
    for place, (window, sink) in enumerate(zip(windows, sinks, strict=True)):
        hop = timedelta(microseconds=window["hop"])
        length = timedelta(microseconds=window["length"])
        windower: Any = (
            windowing.TumblingWindower(length=hop, align_to=_EPOCH)
            if form == "tiles"
            else windowing.SlidingWindower(length=length, offset=hop, align_to=_EPOCH)
        )
        keyed = op.key_on(f"key_{place}", events, partial(_key, window["keys"]))
        folded = windowing.fold_window(
            f"fold_{place}",
            keyed,
            clock,
            windower,
            int,
            _FOLDS[window["value"]],
            lambda a, b: a + b,
            ordered=False,
        )
        op.output(f"out_{place}", folded.down, sink)
    return flow


def _key(names: list[str], event: dict[str, Any]) -> str:
    return " ".join([str(event[name]) for name in names])


_FOLDS: dict[str, Callable[[int, dict[str, Any]], int]] = {
    "count": lambda total, _event: total + 1,
    "sum": lambda total, event: total + event["amount"],
}

if __name__ == "__main__":
    serve({"prepare": prepare, "run": run, "check": check})
