"""The online store: the newest tiles, as bytes under keys, with the offset they stand at.

Derived data: it can be thrown away and rebuilt from the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

KEY_LIMIT = 500
"""The most bytes that a key may have."""


class Mark(NamedTuple):
    """How far the log was folded: every record below ``offset``, none later than ``time`` (µs).

    ``offset`` is exclusive: the record at ``offset`` is the first that is not folded.
    """

    offset: int
    time: int


class StoreSnapshot(Protocol):
    """One moment of the store: values and mark belong together.

    Hold it for a request, not longer: while it is held the store cannot reuse space.
    """

    def mark(self) -> Mark:
        """Return how far the log was folded at this moment."""
        ...

    def version(self) -> int:
        """Return a number that another moment has only if nothing was committed between them.

        Called several times a request, by those who keep what they worked out of the store.
        """
        ...

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key; None where there is none."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of ``keys``, in their order; None where there is none."""
        ...

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` keys behind ``after`` with their values, in the keys' order.

        Called by the engine when nothing else is to do, to check what is stored; ``b""`` is before
        every key.
        """
        ...


class SnapshotSource(Protocol):
    """What opens moments of a store: all that a reader needs."""

    def snapshot(self) -> AbstractContextManager[StoreSnapshot]:
        """Open one moment for reading. Called by every gateway worker for each turn of its loop."""
        ...


class OnlineStore(SnapshotSource, Protocol):
    """Bytes under keys of 1 to 500 bytes. One writer (the engine), many readers."""

    def commit(self, puts: Iterable[tuple[bytes, bytes]], expected: int, mark: Mark) -> None:
        """Store ``puts`` and move the mark, in one transaction; a power loss may undo it, whole.

        Called by the engine for each batch. If the stored offset is not ``expected`` nothing
        changes and Fenced is raised, so that two engines cannot both fold a record. Of two puts
        under one key the later wins. What ``puts`` yields may come from a snapshot that is open
        meanwhile; an error that it raises is passed on, and nothing is stored.

        Raises
        ------
        Fenced
            If another engine has moved the mark.
        InputError
            If a key is empty or longer than ``KEY_LIMIT``; nothing is stored.
        StoreFull
            If there is no space; nothing is stored and reads go on.
        """
        ...

    def discard(self, prefix: bytes, limit: int) -> int:
        """Delete up to ``limit`` values whose keys begin with ``prefix``; return how many.

        Called by the engine for tiles that nobody reads any more. Idempotent; the mark stays.
        """
        ...

    def clear(self) -> None:
        """Forget everything; the mark returns to offset 0. Called for a rebuild; idempotent."""
        ...

    def erase(self) -> None:
        """Forget everything as `clear` does, so that no file has a byte of it.

        Called by an erasure, while nothing else works on the store; idempotent.

        Raises
        ------
        Unavailable
            If another process has the store open; nothing was changed.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
