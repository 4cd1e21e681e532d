"""What ``platform.db`` knows of the event log, for the day on which the log is not there."""

from __future__ import annotations

from pathlib import Path

from feilun.adapters.sqlite.database import Database

_OFFSETS = """
SELECT max("offset") FROM (
    SELECT "offset" FROM releases UNION ALL SELECT "offset" FROM rollouts
    UNION ALL SELECT cut FROM turns UNION ALL SELECT "offset" FROM examined
    UNION ALL SELECT "offset" FROM skew
)
"""


class SqliteKnownLog:
    """Whether there has been a log, and how far what was written down of it reaches.

    Parameters
    ----------
    path : Path
        The database file; it must be there.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, new=False)

    def has_begun(self) -> bool:
        """Return whether a log was ever noted."""
        return bool(self._database.read("SELECT 1 FROM log"))

    def note(self, now: int) -> None:
        """Note that there is a log since ``now`` (µs UTC) at the latest; once it is, do nothing."""
        if not self.has_begun():
            with self._database.write() as db:
                db.execute("INSERT OR IGNORE INTO log (id, since) VALUES (1, ?)", (now,))

    def end(self) -> int:
        """Return an offset that none of those that are kept is beyond."""
        ((highest,),) = self._database.read(_OFFSETS)
        return int(highest or 0)

    def forget_rows(self) -> None:
        """Forget how far tables were read: their rows were in the log."""
        with self._database.write() as db:
            db.execute("DELETE FROM sync_marks")
            db.execute("DELETE FROM syncs")

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()
