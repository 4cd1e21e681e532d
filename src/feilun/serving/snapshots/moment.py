"""The moment at which a read stands: which records it must have folded, and its time."""

from __future__ import annotations

import asyncio
import time
from typing import Literal, NamedTuple

from feilun.clock import MINUTE, Clock
from feilun.errors import Behind, InputError
from feilun.features.online import Snapshot
from feilun.ports.online_store import Mark, SnapshotSource
from feilun.serving.http.parameters import ReadOptions
from feilun.serving.snapshots.freshness import Freshness

POLL_SECONDS = 0.001
CLOCK_TOLERANCE = MINUTE
"""How far (µs) reads may stand ahead of our clock before their answers say so."""

ClockMode = Literal["wall", "request"]


class Moment(NamedTuple):
    """One moment of the store, open to be read, and the time (µs) of reads from it."""

    snapshot: Snapshot
    as_of: int


class Moments:
    """Chooses the moment of each read.

    Parameters
    ----------
    store : SnapshotSource
        Asked how far the log was folded.
    clock : Clock
        The time of reads in mode ``wall``.
    mode : {"wall", "request"}
        ``request``: the caller gives the time, as a replay does; without one a read stands just
        after the newest folded event.
    freshness : Freshness
        Whether what is read holds what came a while ago.
    patience : float
        Seconds that a read waits for the record it asks to see.
    """

    def __init__(
        self,
        store: SnapshotSource,
        clock: Clock,
        mode: ClockMode,
        freshness: Freshness,
        patience: float = 2.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._mode = mode
        self._freshness = freshness
        self._patience = patience

    async def reach(self, options: ReadOptions) -> None:
        """Wait until the record at ``options.min_offset`` is folded.

        Raises
        ------
        Behind
            If it is not within the patience.
        """
        offset = options.min_offset
        if offset is None or self.mark().offset > offset:
            return
        deadline = time.monotonic() + self._patience
        while (mark := self.mark()).offset <= offset:
            if time.monotonic() > deadline:
                raise Behind(
                    f"The record at offset {offset} was not folded within {self._patience:g} s; "
                    f"the features stand at {mark.offset}.",
                    "Try again; if it stays so, see whether the engine runs (/status).",
                )
            await asyncio.sleep(POLL_SECONDS)

    def mark(self) -> Mark:
        """Return how far the log is folded now."""
        with self._store.snapshot() as snapshot:
            return snapshot.mark()

    def as_of(self, mark: Mark, options: ReadOptions) -> int:
        """Return the time (µs) of a read from a snapshot at ``mark``; later than all it holds.

        Raises
        ------
        InputError
            If the caller gives a time that this gateway does not take, or one that is past.
        """
        asked = options.as_of
        if self._mode == "wall":
            if asked is not None:
                raise InputError(
                    "This gateway takes the time from its own clock, not from as_of.",
                    'Leave as_of out, or set clock = "request" in feilun.toml for a replay.',
                )
            return max(self._clock.now(), mark.time + 1)
        if asked is not None and asked <= mark.time:
            raise InputError(
                f"as_of={asked} is not later than {mark.time}, the newest folded event.",
                "Ask for a later time: the past is read from the log, by training.",
            )
        return mark.time + 1 if asked is None else asked

    def around(self, options: ReadOptions) -> int:
        """Return about which time (µs) a read would have."""
        if self._mode == "wall":
            return self._clock.now()
        return self.mark().time + 1 if options.as_of is None else options.as_of

    def at(self, snapshot: Snapshot, options: ReadOptions) -> Moment:
        """Return the moment of a read from ``snapshot``; raises what `as_of` does."""
        return Moment(snapshot, self.as_of(snapshot.mark, options))

    def doubts(self, as_of: int) -> list[str]:
        """Return the flags ``clock`` and ``stale``, as far as they hold of a read.

        ``clock``: it stands well ahead of our clock, which was set back. The newest record was
        received at a time that has not come yet, and reads are later than every record; so their
        windows end in the future, and may leave out what they should count. ``stale``: the features
        lack records that came a while ago.
        """
        ahead = self._mode == "wall" and as_of > self._clock.now() + CLOCK_TOLERANCE
        flags = ["clock"] if ahead else []
        return [*flags, "stale"] if self._freshness.stale else flags
