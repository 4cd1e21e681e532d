"""What is remembered of each table's synchronisation: how far, how it went, what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

REFUSED_LIMIT = 10_000
"""How many refused rows are remembered for a table; beyond it the oldest are forgotten."""


class SyncStatus(msgspec.Struct, frozen=True):
    """How the last synchronisation of a table went, or goes.

    Attributes
    ----------
    state : {"running", "done", "failed"}
        A ``running`` one whose process is gone was broken off; the next goes on from there.
    started, ended : int
        µs UTC; ``ended`` is 0 while it runs.
    rows : int
        How many rows were read; each is one of the following.
    new : int
        Rows that became events.
    duplicates : int
        Rows that were known.
    conflicts : int
        Rows that changed while their time did not: what was known first counts.
    bad : int
        Rows that cannot be used.
    ahead : int
        Rows whose time has not come: they are read again.
    watermark : int or None
        The newest time of a row that was ever read, µs UTC.
    failures : int
        How many times in a row it has failed.
    error : str
        Why the last one failed.
    origin : str
        Names what the marks speak of: where the rows came from and what made them events.
    log_end : int
        The log's end when the newest mark was kept.
    erased : int
        Rows from before their subject was erased: they are not stored.
    """

    state: Literal["running", "done", "failed"] = "running"
    started: int = 0
    ended: int = 0
    rows: int = 0
    new: int = 0
    duplicates: int = 0
    conflicts: int = 0
    bad: int = 0
    ahead: int = 0
    watermark: int | None = None
    failures: int = 0
    error: str = ""
    origin: str = ""
    log_end: int = 0
    erased: int = 0


class SyncState(NamedTuple):
    """What is kept of one table: the newest mark of each part, and digests of refused rows."""

    status: SyncStatus
    marks: Mapping[str, str]
    refused: Sequence[bytes]


class SyncStore(Protocol):
    """Keeps the state of synchronisations, durably."""

    def load(self, table: str) -> SyncState | None:
        """Return what is kept of a table; None before its first synchronisation."""
        ...

    def save(
        self,
        table: str,
        status: SyncStatus,
        marks: Mapping[str, str] | None = None,
        refused: Sequence[bytes] = (),
    ) -> None:
        """Keep the status, and add to it marks and refused rows, in one durable transaction.

        Called after every chunk. Idempotent. A part's new mark takes the place of its old one; of
        the refused rows the newest ``REFUSED_LIMIT`` stay.
        """
        ...

    def forget(self, table: str, *, refused: bool = False) -> None:
        """Forget a table's marks, so that it is read from the beginning; its refused rows too."""
        ...

    def statuses(self) -> dict[str, SyncStatus]:
        """Return the status of every table that was ever synchronised, by name."""
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
