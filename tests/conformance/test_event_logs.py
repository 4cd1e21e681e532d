"""Every event log takes the same exam."""

from __future__ import annotations

from pathlib import Path

from feilun.adapters.lmdb import LmdbEventLog
from feilun.ports.event_log import EventLog
from feilun.testing.event_log_conformance import EventLogConformance
from feilun.testing.fakes import MemoryLog


class TestMemoryLog(EventLogConformance):
    reopens = False

    def open(self, folder: Path) -> EventLog:
        return MemoryLog()


class TestLmdbEventLog(EventLogConformance):
    def open(self, folder: Path) -> EventLog:
        return LmdbEventLog(folder)
