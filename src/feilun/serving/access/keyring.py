"""The keys that this worker knows: followed in the store, looked up in memory."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from feilun.errors import FeilunError, Unavailable
from feilun.ports.teams import Directory, TeamStore
from feilun.serving.access.keys import digest_of, key_id
from feilun.serving.http.caller import Caller

POLL_SECONDS = 0.2
"""How soon a worker knows of a new key, or of one that was taken away."""
STALE_SECONDS = 900.0
"""How long the keys that were read last are honoured while the store cannot be read."""

_log = logging.getLogger(__name__)


class _Known(NamedTuple):
    digest: bytes
    expires: int | None
    caller: Caller


@dataclass(frozen=True)
class _Keys:
    """What was read at one moment. Replaced whole, so a request sees one state."""

    directory: Directory
    known: Mapping[str, _Known]


class Keyring:
    """Knows every key that may be used, by its id.

    Parameters
    ----------
    store : TeamStore
        Polled.
    required : bool
        Whether callers without a key are refused even while there was never a team.
    monotonic : callable
        Seconds, for how old the keys are.
    """

    def __init__(
        self,
        store: TeamStore,
        *,
        required: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._required = required
        self._monotonic = monotonic
        self._keys = _Keys(Directory(), {})
        self._read_at: float | None = None
        self._problem = ""

    @property
    def required(self) -> bool:
        """Whether a key is asked for. Once it is, it stays so for the life of this worker.

        Before the keys were read for the first time it is.
        """
        return self._required or self._read_at is None

    def find(self, presented: bytes, now: int) -> Caller | None:
        """Return whose key this is at ``now`` (µs UTC); None if it is nobody's any more.

        Raises
        ------
        Unavailable
            If the keys have not been read for ``STALE_SECONDS``.
        """
        self.check_fresh()
        known = self._keys.known.get(key_id(presented))
        if known is None or not hmac.compare_digest(known.digest, digest_of(presented)):
            return None
        return known.caller if known.expires is None or now < known.expires else None

    def check_fresh(self) -> None:
        """Raise Unavailable if what is known is too old to be believed, or nothing is known yet."""
        if self._read_at is None:
            raise Unavailable(
                "The keys could not be read since this worker began: nobody is let in.",
                "The gateway's log says why; it looks again all the time.",
            )
        if self._monotonic() - self._read_at >= STALE_SECONDS:
            raise Unavailable(
                f"The keys could not be read for {STALE_SECONDS:.0f} s: nobody is let in.",
                "The gateway's log says why.",
            )

    def problem(self) -> str:
        """Return why the keys cannot be read now, and for how long; empty if they can."""
        if not self._problem:
            return ""
        if self._read_at is None:
            return f"The teams' keys cannot be read, and nobody is let in: {self._problem}"
        seconds = self._monotonic() - self._read_at
        until = f"those known are honoured for {STALE_SECONDS:.0f} s"
        return f"The teams' keys cannot be read for {seconds:.0f} s ({until}): {self._problem}"

    async def follow(self) -> None:
        """Refresh for ever, in a thread of its own: a slow disk never holds a request up."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="keys")
        try:
            while True:
                await asyncio.sleep(POLL_SECONDS)
                await loop.run_in_executor(thread, self.look)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Read the keys once; where they cannot be read those known stay, and ``problem`` says why.

        A worker that has read none yet lets nobody in. It does not end: it would begin again and
        again, until its server gave all of its workers up.
        """
        try:
            self.refresh()
        except FeilunError as error:
            if not self._problem:
                _log.error("The teams' keys cannot be read: %s", error)
            self._problem = str(error)

    def refresh(self) -> None:
        """Read the keys once, and use what was read from the next request on.

        Raises
        ------
        FeilunError
            If they cannot be read; those known stay.
        """
        began = self._monotonic()
        directory = self._store.load()
        if directory != self._keys.directory:
            self._keys = _Keys(directory, _usable(directory))
        # A revoked team counts too: taking the last key away opens nothing.
        self._required = self._required or bool(directory.teams)
        self._read_at, self._problem = began, ""


def _usable(directory: Directory) -> dict[str, _Known]:
    teams = {team.name: team for team in directory.teams if team.revoked is None}
    return {
        key.id: _Known(key.digest, key.expires, Caller(key.id, teams[key.team]))
        for key in directory.keys
        if key.revoked is None and key.team in teams
    }
