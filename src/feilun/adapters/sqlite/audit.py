"""Writes the audit log, in the transaction of what is audited. Triggers refuse to change it."""

from __future__ import annotations

import sqlite3

_ADD = """
INSERT INTO audit (at, "by", action, subject, detail)
SELECT ?1, ?2, ?3, ?4, ?5
WHERE ?3 <> 'use'
   OR NOT EXISTS (
       SELECT 1 FROM audit WHERE action = 'use' AND "by" = ?2 AND detail = ?5 AND at = ?1
   )
"""
"""INSERT OR IGNORE would count a number for what it ignores, as if an entry had been taken out."""


def audit(
    db: sqlite3.Connection, *, at: int, by: str, action: str, subject: str, detail: str
) -> None:
    """Note that something was done; a use of a key that was noted already is left as it is."""
    db.execute(_ADD, (at, by, action, subject, detail))
