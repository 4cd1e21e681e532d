"""`SkewStore` on SQLite."""

from __future__ import annotations

from pathlib import Path

import msgspec

from feilun.adapters.sqlite.database import Database
from feilun.errors import Fenced
from feilun.ports.skew_store import SkewState

_decode = msgspec.json.Decoder(SkewState).decode


class SqliteSkew:
    """What the audit has found, in ``platform.db``; see `feilun.ports.skew_store.SkewStore`.

    Parameters
    ----------
    path : Path
        The database file; shared with the other stores of ``platform.db``.
    new : bool
        Whether it is made where it is missing; see `Database`.
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self._database = Database(path, new=new)

    def load(self) -> SkewState:
        """Return the state; an empty one at first."""
        rows = self._database.read("SELECT state FROM skew")
        return _decode(rows[0][0]) if rows else SkewState()

    def save(self, state: SkewState, expected: int) -> None:
        """Put ``state`` in the place of the one at offset ``expected``."""
        text = msgspec.json.encode(state).decode()
        with self._database.write() as db:
            row = db.execute('SELECT "offset" FROM skew').fetchone()
            if (row[0] if row else 0) != expected:
                raise Fenced(
                    f"The audit stands at offset {row[0] if row else 0}, not {expected}.",
                    "Another flywheel audits; stop this one.",
                )
            db.execute(
                'INSERT INTO skew (id, "offset", state) VALUES (1, ?, ?) ON CONFLICT (id)'
                ' DO UPDATE SET "offset" = excluded."offset", state = excluded.state',
                (state.offset, text),
            )

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        self._database.close()
