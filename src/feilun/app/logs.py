"""The log of every long-running process: one line of JSON for each thing, and no floods."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from feilun.app.terminal import json_line
from feilun.clock import SystemClock, to_iso

ALIKE = 10
"""So many lines of one kind a second are written; of the others one line says how many."""
SECOND = 1.0


class JsonLines(logging.Formatter):
    """Writes a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "at": to_iso(SystemClock().now()),
            "level": record.levelname.lower(),
            "process": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json_line(line)


class NoFloods(logging.Filter):
    """Lets a few lines of one kind a second through: a full disk must not fill another.

    Lines are of one kind if one statement writes them. The first line of a kind after some were
    left out has their number, as ``left_out``.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._timer = timer
        self._kinds: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line."""
        kind = record.pathname, record.lineno
        now = self._timer()
        began, count = self._kinds.get(kind, (now, 0))
        if now - began >= SECOND:
            record.left_out = max(0, count - ALIKE)
            began, count = now, 0
        self._kinds[kind] = began, count + 1
        return count < ALIKE


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": JsonLines}},
    "filters": {"no_floods": {"()": NoFloods}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "lines",
            "filters": ["no_floods"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "uvicorn.error": {"level": "WARNING"},  # it tells of each start and stop as well
    },
}
