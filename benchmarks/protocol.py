"""What a worker speaks: one JSON request a line on its input, one JSON reply a line on its output.

Workers run in environments of their own, so this module needs the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until the input ends.

    A request is ``{"do": name, "with": {…}}``, a reply ``{"ok": value}`` or ``{"error": text}``.
    What libraries print goes to the standard error, so that it cannot break a reply. ``ping``
    is always there: it is answered when the worker has been imported.
    """
    commands = {"ping": lambda: None, **commands}
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": commands[request["do"]](**request["with"])}
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), file=replies, flush=True)


def timed(
    work: Callable[[], object], cpu: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Do the work; return its wall time and its CPU time in seconds.

    ``cpu`` tells the CPU time so far; the default counts all threads of this process.
    """
    cpu_before, before = cpu(), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - before, "cpu": cpu() - cpu_before}


def latencies(call: Callable[[Any], object], requests: list[Any]) -> dict[str, float]:
    """Make each call; return the median and the 99th percentile of their times, in seconds."""
    times = []
    for request in requests:
        before = time.perf_counter()
        call(request)
        times.append(time.perf_counter() - before)
    times.sort()
    return {
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, len(times) * 99 // 100)],
    }
