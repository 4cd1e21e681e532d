"""`SyncStore` on SQLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from feilun.adapters.sqlite.database import Database
from feilun.ports.sync_store import REFUSED_LIMIT, SyncState, SyncStatus

_DIGEST_BYTES = 8

_decode = msgspec.json.Decoder(SyncStatus).decode


class SqliteSyncs:
    """What is remembered of synchronisations; see `feilun.ports.sync_store.SyncStore`.

    Parameters
    ----------
    path : Path
        The database file; shared with the other stores of ``platform.db``.
    new : bool
        Whether it is made where it is missing; see `Database`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._database = Database(path, new=new)

    def load(self, table: str) -> SyncState | None:
        """Return what is kept of a table."""
        rows = self._database.read("SELECT status, refused FROM syncs WHERE name = ?", table)
        if not rows:
            return None
        marks = self._database.read("SELECT part, mark FROM sync_marks WHERE name = ?", table)
        status, refused = rows[0]
        return SyncState(_decode(status), dict(marks), _split(refused))

    def save(
        self,
        table: str,
        status: SyncStatus,
        marks: Mapping[str, str] | None = None,
        refused: Sequence[bytes] = (),
    ) -> None:
        """Keep the status, and add to it marks and refused rows."""
        text = msgspec.json.encode(status).decode()
        with self._database.write() as db:
            db.execute(
                "INSERT INTO syncs (name, status, refused) VALUES (?, ?, x'')"
                " ON CONFLICT (name) DO UPDATE SET status = excluded.status",
                (table, text),
            )
            if refused:
                (before,) = db.execute(
                    "SELECT refused FROM syncs WHERE name = ?", (table,)
                ).fetchone()
                kept = list(dict.fromkeys([*_split(before), *refused]))[-REFUSED_LIMIT:]
                db.execute("UPDATE syncs SET refused = ? WHERE name = ?", (b"".join(kept), table))
            db.executemany(
                "INSERT INTO sync_marks (name, part, mark) VALUES (?, ?, ?)"
                " ON CONFLICT (name, part) DO UPDATE SET mark = excluded.mark",
                [(table, part, mark) for part, mark in (marks or {}).items()],
            )

    def forget(self, table: str, *, refused: bool = False) -> None:
        """Forget a table's marks, and its refused rows if asked."""
        with self._database.write() as db:
            db.execute("DELETE FROM sync_marks WHERE name = ?", (table,))
            if refused:
                db.execute("UPDATE syncs SET refused = x'' WHERE name = ?", (table,))

    def statuses(self) -> dict[str, SyncStatus]:
        """Return the status of every table that was ever synchronised."""
        rows = self._database.read("SELECT name, status FROM syncs ORDER BY name")
        return {name: _decode(status) for name, status in rows}

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()


def _split(refused: bytes) -> list[bytes]:
    step = _DIGEST_BYTES
    return [refused[at : at + step] for at in range(0, len(refused), step)]
