"""How much memory a process has for itself."""

from __future__ import annotations

import re
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SAMPLE_SECONDS = 0.05
_STATUS = Path("/proc/self/status")


class Peak:
    """The most bytes that were seen."""

    def __init__(self) -> None:
        self.bytes = 0

    def look(self) -> None:
        """Look again."""
        self.bytes = max(self.bytes, own_bytes())


@contextmanager
def watched() -> Iterator[Peak]:
    """Watch the memory of this process while the block runs."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            peak.look()

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
        peak.look()


def own_bytes() -> int:
    """Return the bytes in memory that belong to this process alone.

    Pages of files that it has mapped are left out: the system takes them back when it needs them.
    Where they cannot be told apart (not Linux) the most that it ever had, with them.
    """
    if _STATUS.is_file():
        found = re.search(r"^RssAnon:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"), re.M)
        if found:
            return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
