"""One moment of the store for each turn of the event loop.

A busy worker answers a dozen requests a turn. Opening a moment for each would cost as much as what
is read from it, and let other threads in each time.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType

from feilun.ports.online_store import OnlineStore, StoreSnapshot


class TurnSnapshots:
    """Opens the store once a turn; what is read in one turn is of one moment.

    Used by the event loop alone, and never across an ``await``: a snapshot that is kept longer
    is closed.

    Parameters
    ----------
    store : OnlineStore
        What is read.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._opened: AbstractContextManager[StoreSnapshot] | None = None
        self._moment: StoreSnapshot | None = None

    def snapshot(self) -> TurnSnapshots:
        """Return the moment of this turn, to be entered."""
        return self

    def __enter__(self) -> StoreSnapshot:
        if self._moment is None:
            opened = self._store.snapshot()
            self._moment = opened.__enter__()
            self._opened = opened
            asyncio.get_running_loop().call_soon(self._end)
        return self._moment

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # it may be the store's, which knows what it means
            opened, self._opened, self._moment = self._opened, None, None
            if opened is not None:
                opened.__exit__(kind, error, trace)

    def _end(self) -> None:
        opened, self._opened, self._moment = self._opened, None, None
        if opened is not None:
            opened.__exit__(None, None, None)
