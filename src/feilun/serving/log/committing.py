"""The committer, and whether the log took what it was last given."""

from __future__ import annotations

import time
from collections.abc import Sequence

from feilun.errors import StoreFull, StoreStopped
from feilun.events.committer import Committer
from feilun.ports.event_log import Appended, EventLog
from feilun.records.record import Record

REMEMBERED_SECONDS = 5.0
"""How long a refusal counts: nobody may write while others are told not to, so it must end."""


class WatchedCommitter(Committer):
    """A committer that remembers for a while why the log took nothing, for ``/ready``."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._problem = ""
        self._at = 0.0

    async def commit(self, records: Sequence[Record]) -> Sequence[Appended]:
        """Append records durably; see `Committer.commit`."""
        try:
            answers = await super().commit(records)
        except (StoreFull, StoreStopped) as error:
            self._problem, self._at = str(error), time.monotonic()
            raise
        self._problem = ""
        return answers

    def problem(self) -> str:
        """Return why the log takes nothing; empty if it does, as far as is known."""
        return self._problem if time.monotonic() - self._at < REMEMBERED_SECONDS else ""
