"""Records that cannot be folded: kept with the bad events of the log, and left out for good.

The log knows them, not the store: a rebuild leaves out the same ones, and so can training.
"""

from __future__ import annotations

import msgspec

from feilun.ports.event_log import EventLog
from feilun.records.record import Record

SOURCE = "feilun/engine"
"""Under this source the engine keeps what it sets aside. No client may be called so."""

_PAGE = 1_000
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, Record])


class SetAside:
    """The offsets that were set aside; read once from the log, then only what is new.

    Parameters
    ----------
    log : EventLog
        Where they are kept.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._read = 0
        self._offsets: set[int] = set()

    def offsets(self) -> frozenset[int]:
        """Return the log offsets of every record that was set aside until now."""
        while page := self._log.bad(self._read, _PAGE):
            self._offsets.update(
                _decoder.decode(bad.raw)[0] for bad in page if bad.source == SOURCE
            )
            self._read = page[-1].number + 1
        return frozenset(self._offsets)

    def add(self, offset: int, record: Record, reason: str) -> None:
        """Set a record aside, durably. Idempotent."""
        if offset not in self.offsets():
            raw = _encoder.encode((offset, record))
            self._log.keep_bad(SOURCE, f"Offset {offset}: {reason}", raw, record.received)
