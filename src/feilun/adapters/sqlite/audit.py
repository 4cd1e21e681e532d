"""Writes the audit log, in the transaction of what is audited. Triggers refuse to change it."""

from __future__ import annotations

import sqlite3


def audit(
    db: sqlite3.Connection, *, at: int, by: str, action: str, subject: str, detail: str
) -> None:
    """Note that something was done; a use of a key that was noted already is left as it is."""
    db.execute(
        'INSERT OR IGNORE INTO audit (at, "by", action, subject, detail) VALUES (?, ?, ?, ?, ?)',
        (at, by, action, subject, detail),
    )
